"""The task namespace and nothing else."""

from invoke import Collection

from fabfile.tasks import (
    backup,
    chat,
    checks,
    deploy,
    fleet,
    hosts,
    lab,
    maintenance,
    manage,
    migrations,
    service,
)

ns = Collection()
for _task in (
    deploy.plan, deploy.rollback, fleet.status, fleet.releases, fleet.lock,
    fleet.unlock, fleet.verify, service.start, service.stop, service.restart, manage.manage,
):
    ns.add_task(_task)
ns.add_task(fleet.inventory_, name="inventory")
_deploy = Collection("deploy")
_deploy.add_task(deploy.deploy, name="deploy", default=True)
_deploy.add_task(deploy.finish)
ns.add_collection(_deploy)
_migrations = Collection("migrations")
_migrations.add_task(migrations.pending, default=True)
_migrations.add_task(migrations.sql)
_migrations.add_task(migrations.run)
ns.add_collection(_migrations)
ns.add_task(checks.run_tests)
_backup = Collection("backup")
_backup.add_task(backup.take, default=True)
_backup.add_task(backup.list_, name="list")
_backup.add_task(backup.drill)
ns.add_collection(_backup)
ns.add_collection(Collection.from_module(chat))
ns.add_collection(Collection.from_module(hosts))
_maintenance = Collection("maintenance")
for _task in (maintenance.on, maintenance.off, maintenance.status, maintenance.config):
    _maintenance.add_task(_task)
_maintenance.add_task(maintenance.next_, name="next")
for _task in (maintenance.schedule, maintenance.scheduled, maintenance.cancel):
    _maintenance.add_task(_task)
ns.add_collection(_maintenance)
ns.add_collection(Collection.from_module(lab))
