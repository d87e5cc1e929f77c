from django.db import migrations, models


def convert(apps, schema_editor):
    """Stops in the middle of its work, after a change of schema and a row written."""
    AuditEntry = apps.get_model("catalog", "AuditEntry")
    AuditEntry.objects.create(what="Half of the prices are in cents")
    raise RuntimeError("This migration stops half way.")


class Migration(migrations.Migration):
    stage = "pre_deploy"  # as django-syzygy has it: safe while the old code serves
    dependencies = (("catalog", "0005_note_stock"),)

    operations = (
        migrations.AddField(
            model_name="product",
            name="cents",
            field=models.IntegerField(null=True),
        ),
        migrations.RunPython(convert, migrations.RunPython.noop),
    )
