from django.conf import settings
from django.shortcuts import render

from .hours import OPENING_HOURS
from .models import Category
from .promotions import HEADLINE


def home(request):
    return render(
        request,
        "catalog/home.html",
        {
            "headline": HEADLINE,
            "categories": Category.objects.prefetch_related("products"),
            "opening_hours": OPENING_HOURS,
            "release": settings.RELEASE_ID,
            "host": settings.HOST_NAME,
        },
    )
