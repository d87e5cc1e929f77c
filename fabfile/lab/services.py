"""What PostgreSQL, Redis and HAProxy of a lab are told. Text only; ``furnish`` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

from fabfile.lab.model import LabHost
from roles.maintenance import MaintenanceSettings, Site, config

WEB_PORT = 8000

# fsync off: the disk is memory anyway, so a sync protects nothing and only costs time.
# A power cut of a host keeps its disk, and with it all that PostgreSQL had written.
# The log goes where Debian puts it: /var/log/postgresql/postgresql-*-main.log
POSTGRESQL_CONF = """\
listen_addresses = '*'
fsync = off
log_statement = ddl
log_connections = on
log_line_prefix = '%m pid=%p user=%u db=%d app=%a host=%h '
"""

# The last of several settings counts. A lab's network reaches nobody else.
REDIS_CONF = """
bind *
protected-mode no
"""

# As many statements as roles and databases, because CREATE DATABASE refuses a transaction.
POSTGRESQL_SHOP = """\
SELECT 'CREATE ROLE shop LOGIN CREATEDB PASSWORD ''shop'''
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop') \\gexec
SELECT 'CREATE DATABASE shop OWNER shop'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'shop') \\gexec
"""


def postgresql_access(network: IPv4Network) -> str:
    """The line of ``pg_hba.conf`` that lets the lab in, by password."""
    return f"host all all {network} scram-sha-256\n"


def maintenance_site(lab: str) -> Site:
    """The sample site, as the environment that is called like the lab can close it."""
    settings = MaintenanceSettings(driver="haproxy")
    return Site(f"shop-{lab}", settings, (), "http://localhost/", "/healthz")


def haproxy_config(hosts: Sequence[LabHost], lab: str) -> str:
    """One backend ``web`` with every host of the group ``web``, and what can close the site."""
    servers = "".join(
        f"    server {host.name} {host.address}:{WEB_PORT}\n"
        for host in hosts
        if "web" in host.groups
    )
    return f"""\
global
    log /dev/log local0
    user haproxy
    group haproxy
    stats socket /run/haproxy/admin.sock user haproxy group haproxy mode 660 level admin
    stats timeout 30s

defaults
    mode http
    log global
    option httplog
    option dontlognull
    option http-keep-alive
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 10s
    timeout http-keep-alive 30s

frontend http
    bind :80
{config(maintenance_site(lab))}
    default_backend web

backend web
    balance roundrobin
    option redispatch
    option httpchk
    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host web
    default-server check inter 500ms fall 2 rise 1
{servers}"""
