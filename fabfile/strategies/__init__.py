"""(environment, release, facts) -> Plan. Pure: nothing here touches a host."""
