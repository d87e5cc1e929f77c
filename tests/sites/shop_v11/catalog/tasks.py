import time

from celery import shared_task
from django.conf import settings

from .models import AuditEntry


def note(what):
    AuditEntry.objects.create(what=f"{what} {settings.RELEASE_ID}")


@shared_task
def sip(name):
    note(f"sip {name}")


@shared_task
def brew(name):
    """Lasts until somebody notes that it is poured."""
    note(f"brew {name}: begins")
    while not AuditEntry.objects.filter(what=f"pour {name}").exists():
        time.sleep(0.05)
    note(f"brew {name}: ends")


@shared_task
def tick():
    """What the scheduler asks for."""
    note("tick")
