from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("catalog", "0003_first_products"),)

    operations = (
        migrations.AddField(
            model_name="product",
            name="stock",
            field=models.PositiveIntegerField(db_default=12),
        ),
    )
