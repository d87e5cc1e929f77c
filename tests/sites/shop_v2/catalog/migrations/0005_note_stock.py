from django.db import migrations


def append_note(apps, schema_editor):
    """One row for each run: a table with two of them was migrated twice."""
    AuditEntry = apps.get_model("catalog", "AuditEntry")
    AuditEntry.objects.create(what="The catalogue knows its stock")


class Migration(migrations.Migration):
    dependencies = (("catalog", "0004_product_stock"),)

    operations = (migrations.RunPython(append_note, migrations.RunPython.noop),)
