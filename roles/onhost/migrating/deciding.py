"""What judged plans allow. Plain data in, plain data out: no Django, no database."""

from .words import BLOCKS, OK, unique


def decide(plan):
    """What one judged plan allows.

    -> {"decision": "nothing" | "expand" | "expand-contract" | "stop", "expand": ["app.name"],
    "contract": ["app.name"], "offenders": [{"migration", "reasons", "remedies"}],
    "problems": [words]}. "stop" still names expand and contract, for a maintenance window or a
    person who accepts the risk; offenders that are offline, unknown or blocked are in neither.
    """
    pending, problems = plan["pending"], problems_of(plan)
    offenders = [found for found in map(offence, pending) if found]
    expand = [each["migration"] for each in pending
              if each["phase"] in ("any", "before") and not each["blocked_by"]]
    contract = [each["migration"] for each in pending if each["phase"] == "after"]
    if problems or offenders:
        decision = "stop"
    elif not pending:
        decision = "nothing"
    else:
        decision = "expand-contract" if contract else "expand"
    return {"decision": decision, "expand": expand, "contract": contract, "offenders": offenders,
            "problems": problems}


def decide_together(plans):
    """{alias: plan} -> as `decide`, the strictest decision, and each alias in "databases"."""
    each = {alias: decide(plan) for alias, plan in plans.items()}
    order = ("nothing", "expand", "expand-contract", "stop")
    return {
        "decision": max((one["decision"] for one in each.values()), key=order.index,
                        default="nothing"),
        "offenders": [dict(found, database=alias) for alias, one in each.items()
                      for found in one["offenders"]],
        "problems": ["%s: %s" % (alias, words) for alias, one in each.items()
                     for words in one["problems"]],
        "databases": each,
    }


def problems_of(plan):
    """Why a plan is not trusted at all."""
    found = ["several last migrations in %s: %s" % (app, ", ".join(names))
             for app, names in sorted(plan["conflicts"].items())]
    if plan["inconsistent"]:
        found.append(plan["inconsistent"])
    if plan["ahead"]:
        found.append("applied, but not in this release: %s" % ", ".join(plan["ahead"]))
    return found


def offence(each):
    """Why one migration is not safe while code runs: {"migration", "reasons", "remedies"}."""
    reasons, remedies = [], []
    if each["phase"] in ("offline", "unknown"):
        reasons, remedies = why_unsafe(each)
    if each["blocked_by"]:
        reasons.append(blocked_words(each))
        remedies.append("deploy %s first, or make that safe before the new code starts"
                        % ", ".join(each["blocked_by"]))
    for heavy in each["heavy"]:
        reasons.append(heavy_words(heavy, each["waits_for_backfill"]))
        remedies += [op["remedy"] for op in each["operations"]
                     if op["remedy"] and heavy["table"] in op["work"]]
        if heavy["table"] in each["waits_for_backfill"]:
            remedies.append("put the schema change and the backfill into two migrations")
    reasons += each["refused"]
    if not reasons:
        return None
    return {"migration": each["migration"], "heavy": bool(each["heavy"]),
            "refused": bool(each["refused"]), "reasons": unique(reasons),
            "remedies": unique(remedies)}


def why_unsafe(each):
    """Reasons and remedies of a migration that is offline or unknown."""
    mark = each["marker"]
    if mark:
        words = "marked %s = %r" % (mark["from"], mark["value"])
        known = mark["phase"] == "unknown" and mark["from"] != "overrides"
        return [words + (", which we do not understand" if known else "")], []
    bad = [op for op in each["operations"] if op["phase"] in ("offline", "unknown")]
    reasons = ["%s: %s" % (op["description"], what_breaks(op)) for op in bad]
    if each["phase"] == "offline" and not any(op["phase"] == "offline" for op in bad):
        reasons.append(split_words(each))
    remedies = [op["remedy"] for op in bad if op["remedy"]]
    if (reasons and not bad) or len(reasons) > len(bad):
        remedies.append("split it into two migrations")
    return reasons, remedies


def split_words(each):
    """Why a migration is offline of which no single operation is."""
    return "one part must run before the new code (%s), another after it (%s)" % tuple(
        "; ".join(op["description"] for op in each["operations"] if op["phase"] == phase)
        for phase in ("before", "after"))


def blocked_words(each):
    return "must run before the new code, but depends on %s, which must not" % (
        ", ".join(each["blocked_by"]))


def what_breaks(op):
    if op["phase"] == "unknown":
        return op["old_code"]
    return "; ".join("%s code: %s" % (who, op[key]) for who, key in
                     (("old", "old_code"), ("new", "new_code")) if op[key] != OK)


def heavy_words(heavy, waiting):
    size = "of unknown size" if heavy["bytes"] is None else "of %.0f MB" % (heavy["bytes"] / 1e6)
    work = {"build": "builds an index on", "scan": "reads all of", "rewrite": "rewrites all of"}
    what = "fills in data while it holds" if heavy["table"] in waiting else work[heavy["cost"]]
    return "%s %s (%s), which blocks %s meanwhile" % (
        what, heavy["table"], size, BLOCKS[heavy["lock"]])
