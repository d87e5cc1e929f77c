"""What was asked, from what was written. Nothing is guessed, and no other sign gets through."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
# What git itself refuses in the name of a ref.
NO_REF = re.compile(r"\.\.|//|/\.|[./]$|\.lock(/|$)")
LONGEST = 400
# Whether a ref may follow the environment.
VERBS = {"status": False, "migrations": True, "deploy": True, "maintenance": True}
CHANGING = ("deploy", "maintenance")

HELP = """\
status ENVIRONMENT: where every host is
migrations ENVIRONMENT [REF]: what a deploy would migrate
deploy ENVIRONMENT [REF]: bring a branch, tag or commit; shows the plan and asks first
maintenance ENVIRONMENT [REF]: the same behind the maintenance page
help: this"""


class Unclear(Exception):
    """What was not understood, in words."""


@dataclass(frozen=True)
class Words:
    verb: str
    environment: str = ""
    ref: str = ""

    @property
    def changes(self) -> bool:
        return self.verb in CHANGING

    def __str__(self) -> str:
        return " ".join(each for each in (self.verb, self.environment, self.ref) if each)


def parse(text: str) -> Words:
    """Raises :class:`Unclear`. What is not understood is never quoted."""
    if len(text) > LONGEST:
        raise Unclear("that is too long")
    verb, *rest = text.split() or ["help"]
    if verb == "help" and not rest:
        return Words("help")
    if verb not in VERBS:
        raise Unclear("that is no request that I know")
    if not rest:
        raise Unclear(f"{verb}: name the environment")
    environment, *refs = rest
    if not NAME.fullmatch(environment):
        raise Unclear(f"{verb}: that is no name of an environment")
    if len(refs) > (1 if VERBS[verb] else 0):
        raise Unclear(f"{verb}: these are too many words")
    if refs and (not REF.fullmatch(refs[0]) or NO_REF.search(refs[0])):
        raise Unclear(f"{verb}: that is no branch, tag or commit")
    return Words(verb, environment, refs[0] if refs else "")
