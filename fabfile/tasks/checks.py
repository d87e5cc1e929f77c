"""The checks of Fabfleet itself, as its own developers and its CI run them."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from invoke import Context, Exit, task

from fabfile.errors import UsageError
from fabfile.tasks.command import OPTIONS

ROOT = Path(__file__).parents[2]
LAB = "tests/lab"
TOOLS = Path(sys.executable).parent
# A fixture may have to build the images of the hosts first.
LAB_TIMEOUT = 900
# pytest's exit code when nothing was selected, which is right for one of two runs.
NOTHING_RUN = 5
CLOSING_LINE = re.compile(r"^=+ .* in [\d.]+s.* =+$", re.MULTILINE)
COLOURS = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class Check:
    """One tool, which lives beside our Python, and what it is given."""

    name: str
    words: tuple[str, ...]

    @property
    def is_pytest(self) -> bool:
        return self.words[0] == "pytest"


@dataclass(frozen=True)
class Result:
    """What a check came to; ``closing`` is pytest's last line."""

    check: Check
    code: int
    seconds: float
    closing: str = ""

    def __str__(self) -> str:
        outcome = "ok" if self.code == 0 else f"failed ({self.code})"
        if self.check.is_pytest and self.code == NOTHING_RUN:
            outcome = "nothing to run"
        return f"{self.check.name:<14} {self.seconds:7.1f} s   {outcome}"


# Not made by `command`: what fails here has said so itself, and only the exit code is left to tell.
@task(
    name="test",
    auto_shortflags=False,
    help={name.replace("_", "-"): OPTIONS[name] for name in ("only", "soak", "no_lab")},
)
def run_tests(
    context: Context, only: str = "", soak: bool = False, no_lab: bool = False
) -> None:
    """Run Fabfleet's own checks: ruff, mypy, import-linter, pytest; with --only, just pytest."""
    try:
        _refuse_without_tools()
        results = [_run(context, check) for check in checks(only, soak, not no_lab)]
    except UsageError as error:
        raise Exit(str(error), code=error.exit_code) from None
    except KeyboardInterrupt:
        raise Exit("interrupted", code=130) from None
    print("\n" + summary(results), flush=True)
    raise Exit(code=exit_code(results))


def checks(only: str, soak: bool, lab: bool) -> Iterator[Check]:
    """Everything that is to run, the quick first."""
    if not only:
        yield Check("ruff", ("ruff", "check", "."))
        yield Check("mypy", ("mypy",))
        yield Check("import-linter", ("lint-imports",))
    pytest = ("pytest", *(("-k", only) if only else ()), *(("-m", "") if soak else ()))
    yield Check("tests", (*pytest, "-n", "2", f"--ignore={LAB}"))
    if lab:
        # One after the other: they share this machine's bridge, cgroups and two or so processors.
        yield Check("tests/lab", (*pytest, f"--timeout={LAB_TIMEOUT}", "--durations=20", LAB))


def _refuse_without_tools() -> None:
    tools = ("ruff", "mypy", "lint-imports", "pytest")
    if missing := [tool for tool in tools if not (TOOLS / tool).exists()]:
        raise UsageError(f"{', '.join(missing)}: not installed; `./fab test` installs them")


def _run(context: Context, check: Check) -> Result:
    print(f"\n$ {shlex.join(check.words)}", flush=True)
    line = shlex.join([str(TOOLS / check.words[0]), *check.words[1:]])
    started = time.monotonic()
    with context.cd(ROOT):
        done = context.run(line, warn=True, in_stream=False, pty=sys.stdout.isatty())
    assert done is not None  # only a disowned program has no result
    closing = CLOSING_LINE.findall(COLOURS.sub("", done.stdout)) if check.is_pytest else []
    return Result(check, done.exited, time.monotonic() - started, closing[-1] if closing else "")


def summary(results: list[Result]) -> str:
    """A line for each check, then pytest's own closing lines."""
    closing = [each.closing for each in results if each.closing and _says_something(each)]
    return "\n".join([*map(str, results), "", *closing])


def exit_code(results: list[Result]) -> int:
    """The worst of all; tests of which none was selected are no failure beside others that ran."""
    ran = [result.code for result in results if _says_something(result)]
    return max(ran, default=NOTHING_RUN)


def _says_something(result: Result) -> bool:
    return not (result.check.is_pytest and result.code == NOTHING_RUN)
