"""The task namespace and nothing else."""

from invoke import Collection

from fabfile.tasks import deploy, service

ns = Collection()
for _task in (deploy.deploy, deploy.plan, deploy.rollback, service.start, service.stop,
              service.restart):
    ns.add_task(_task)
