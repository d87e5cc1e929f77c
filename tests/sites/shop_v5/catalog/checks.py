from django.conf import settings
from django.core.checks import Error, Tags, register


@register(Tags.staticfiles, deploy=True)
def static_files_have_a_place(app_configs, **kwargs):
    if settings.STATIC_ROOT:
        return []
    return [Error("STATIC_ROOT is not set.", hint="Set it in the environment.", id="catalog.E001")]


@register
def always_fails(app_configs, **kwargs):
    return [Error("This release cannot work.", hint="Deploy another one.", id="catalog.E002")]
