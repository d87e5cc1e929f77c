from decimal import Decimal

from django.db import migrations

PRODUCTS = {
    "Tea": (
        ("Morning Blend", "Assam and Kenya, strong enough for milk.", "7.50"),
        ("Jasmine Pearls", "Hand-rolled green tea, scented seven times.", "12.90"),
        ("Smoky Pine", "Dried over pine fires; not for everybody.", "9.20"),
    ),
    "Cups": (
        ("Stoneware Mug", "Holds 350 ml and keeps it warm.", "18.00"),
        ("Glass, double-walled", "Looks as if the tea were floating.", "14.50"),
    ),
}


def append_products(apps, schema_editor):
    """Appends, and never looks whether they are there: running twice would show."""
    Category = apps.get_model("catalog", "Category")
    Product = apps.get_model("catalog", "Product")
    for position, (category_name, products) in enumerate(PRODUCTS.items()):
        category = Category.objects.create(name=category_name, position=position)
        for name, description, price in products:
            Product.objects.create(
                category=category, name=name, description=description, price=Decimal(price)
            )


class Migration(migrations.Migration):
    dependencies = (("catalog", "0002_auditentry"),)

    operations = (migrations.RunPython(append_products, migrations.RunPython.noop),)
