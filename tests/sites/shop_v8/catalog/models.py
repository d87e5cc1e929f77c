from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=80)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ("position", "id")
        verbose_name_plural = "categories"

    def __str__(self):
        return self.name


class Product(models.Model):
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    origin = models.CharField(max_length=80, null=True, blank=True)

    class Meta:
        ordering = ("id",)

    def __str__(self):
        return self.name


class AuditEntry(models.Model):
    """One line for each thing done to the catalogue; only ever appended to."""

    at = models.DateTimeField(auto_now_add=True)
    what = models.CharField(max_length=200)

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "audit entries"

    def __str__(self):
        return self.what
