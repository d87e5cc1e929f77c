"""Wait until nobody is connected to the application's server, at most for some seconds.

ARGUMENTS: address ("host:port" or the path of a socket), seconds. Who has connected and was not
accepted yet counts: it is those that a server drops when it stops. Idle connections that something
in front keeps open count too, so the wait ends by itself. Prints {"connected": how many are left}.
"""

import json
import time

ARGUMENTS = globals()["ARGUMENTS"]
ESTABLISHED = "01"
# Of a UNIX socket's connections: those that wait to be accepted, and those that were.
CONNECTED = ("02", "03")
PAUSE = 0.05


def rows(path):
    try:
        with open(path, encoding="ascii", errors="replace") as table:
            return [line.split() for line in table.readlines()[1:]]
    except FileNotFoundError:  # a kernel without IPv6
        return []


def connected(address):
    if "/" in address:
        return sum(row[5] in CONNECTED and row[7:] == [address] for row in rows("/proc/net/unix"))
    port = "%04X" % int(address.rpartition(":")[2])
    return sum(row[1].endswith(":" + port) and row[3] == ESTABLISHED
               for table in ("tcp", "tcp6") for row in rows("/proc/net/" + table))


def main():
    deadline = time.monotonic() + ARGUMENTS["seconds"]
    idle = 0
    while idle < 2 and time.monotonic() < deadline:
        idle = 0 if connected(ARGUMENTS["address"]) else idle + 1
        time.sleep(PAUSE)
    print(json.dumps({"connected": connected(ARGUMENTS["address"])}))


main()
