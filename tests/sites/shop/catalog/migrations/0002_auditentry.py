from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("catalog", "0001_initial"),)

    operations = (
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("what", models.CharField(max_length=200)),
            ],
            options={"ordering": ("id",), "verbose_name_plural": "audit entries"},
        ),
    )
