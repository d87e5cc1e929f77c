"""The task namespace and nothing else."""

from invoke import Collection

from fabfile.tasks import checks, deploy, fleet, hosts, lab, service

ns = Collection()
for _task in (
    deploy.deploy, deploy.plan, deploy.rollback, fleet.status, fleet.releases, fleet.lock,
    fleet.unlock, fleet.verify, service.start, service.stop, service.restart,
):
    ns.add_task(_task)
ns.add_task(fleet.inventory_, name="inventory")
ns.add_task(checks.run_tests)
ns.add_collection(Collection.from_module(hosts))
ns.add_collection(Collection.from_module(lab))
