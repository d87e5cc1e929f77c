from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("catalog", "0005_note_stock"),)

    operations = (
        migrations.RenameField(model_name="product", old_name="stock", new_name="on_shelf"),
    )
