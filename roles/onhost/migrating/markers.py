"""What people say about a migration."""

SAFE = {"always": "any", "before_deploy": "before", "after_deploy": "after"}
STAGES = {"pre_deploy": "before", "post_deployment": "after", "post_deploy": "after"}


def marker(migration, overrides):
    """What people say about a migration: {"from", "value", "phase", "delay"}, or None.

    Our configuration first, then `safe` (django-safemigrate 4 to 6: an enum, a bare classmethod,
    or an object with .when and .delay; compared by value), then `stage` (django-syzygy).
    """
    key = "%s.%s" % (migration.app_label, migration.name)
    if key in overrides:
        return {"from": "overrides", "value": overrides[key], "phase": overrides[key],
                "delay": None}
    for attribute, phases in (("safe", SAFE), ("stage", STAGES)):
        found = getattr(migration, attribute, None)
        if found is not None:
            return marked(attribute, found, phases)
    return None


def marked(attribute, found, phases):
    if callable(found):
        found = found()
    delay = getattr(found, "delay", None)
    found = getattr(found, "when", found)
    value = str(getattr(found, "value", found)).lower()
    return {"from": attribute, "value": value, "phase": phases.get(value, "unknown"),
            "delay": delay.total_seconds() if delay is not None else None}
