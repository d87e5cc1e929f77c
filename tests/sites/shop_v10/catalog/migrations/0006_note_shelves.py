from django.db import migrations


def append_note(apps, schema_editor):
    """Nobody says when this may run, and it cannot be taken back."""
    AuditEntry = apps.get_model("catalog", "AuditEntry")
    AuditEntry.objects.create(what="The shelves were counted")


class Migration(migrations.Migration):
    dependencies = (("catalog", "0005_note_stock"),)

    operations = (migrations.RunPython(append_note),)
