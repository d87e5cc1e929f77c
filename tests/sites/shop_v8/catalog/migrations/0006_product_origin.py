from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("catalog", "0005_note_stock"),)

    operations = (
        migrations.AddField(
            model_name="product",
            name="origin",
            field=models.CharField(max_length=80, null=True, blank=True),
        ),
    )
