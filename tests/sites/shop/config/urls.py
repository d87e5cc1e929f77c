from django.urls import include, path

from . import operations

urlpatterns = [
    path("", include("catalog.urls")),
    path("healthz", operations.healthz),
    path("version", operations.version),
    path("slow", operations.slow),
]
