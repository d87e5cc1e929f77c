from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("catalog", "0006_product_origin"),)

    operations = (migrations.RemoveField(model_name="product", name="stock"),)
