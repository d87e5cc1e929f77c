"""What a load balancer, a deploy tool or a load test asks of the site."""

import time

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse
from django.views.decorators.cache import never_cache

LONGEST_WAIT = 30.0


def healthz(request):
    report = {"release": settings.RELEASE_ID, "host": settings.HOST_NAME}
    try:
        report |= {"database": ask_database(), "pending": pending_migrations()}
    except DatabaseError as error:
        report["database"] = type(error).__name__
    status = 200 if report["database"] == "ok" else 503
    return JsonResponse(report, status=status, headers={"Cache-Control": "no-store"})


@never_cache
def version(request):
    return HttpResponse(settings.RELEASE_ID + "\n", content_type="text/plain")


@never_cache
def slow(request):
    """Holds a worker for `seconds`, so that a restart can be watched under load."""
    try:
        seconds = float(request.GET.get("seconds", "2"))
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        return HttpResponseBadRequest("seconds must be a number, 0 or more\n")
    time.sleep(min(seconds, LONGEST_WAIT))
    return HttpResponse(settings.RELEASE_ID + "\n", content_type="text/plain")


def ask_database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM a_table_that_is_not_there")
    return "ok"


def pending_migrations():
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
