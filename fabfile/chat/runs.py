"""Runs that were confirmed: processes of their own, whose progress is told in the thread.

Each has a record beside its output until its end was told; a bot that is started again goes on
telling from there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fabfile.chat import texts
from fabfile.chat.audit import Audit
from fabfile.chat.slack import Slack, Unsaid
from fabfile.engine import children

# Slack takes about one change of a message a second, and about 50 a minute of all together.
PERIOD = 2.0
LOOK = 0.2
# Seconds between two tries to say the last word.
LONGEST_PAUSE = 300.0
# More of the output than a message can hold is not read.
READ = 1 << 16


@dataclass(frozen=True)
class Record:
    """One run: who asked, who confirmed, where it is told."""

    id: str
    user: str
    confirmed_by: str
    channel: str
    thread: str
    environment: str
    words: str


class Runs:
    """``program``: the words that start ``fab``; ``patience``: seconds before Slack, which did not
    take the last word about a run, is tried anew, then twice as long."""

    def __init__(
        self, folder: Path, slack: Slack, audit: Audit, program: Sequence[str] = children.FAB,
        hidden: Sequence[str] = (), patience: float = 5.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.slack, self.audit = folder, slack, audit
        self.program, self.hidden, self.patience = tuple(program), tuple(hidden), patience
        self.stopping = threading.Event()
        self._guard = threading.Lock()
        self._working: dict[str, Record] = {}

    def start(self, record: Record, task: Sequence[str], variables: Mapping[str, str]) -> None:
        """From here on nothing that happens to us, or to Slack, ends it."""
        new, path = self._path(record, "new"), self._path(record, "json")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(record), file)
        new.rename(path)  # whole, or not there
        try:
            children.start([*self.program, *task], variables, self._path(record, "log"),
                           self._path(record, "status"))
        except OSError:
            path.unlink()
            raise
        self._tell(record)

    def resume(self) -> list[Record]:
        """Go on telling of the runs that a bot before us has started."""
        found = [Record(**json.loads(path.read_text()))
                 for path in sorted(self.folder.glob("*.json"))]
        for record in found:
            self._tell(record)
        return found

    @property
    def working(self) -> list[Record]:
        with self._guard:
            return list(self._working.values())

    def stop(self) -> None:
        """Stop telling. The runs go on."""
        self.stopping.set()

    def _path(self, record: Record, kind: str) -> Path:
        return self.folder / f"{record.id}.{kind}"

    def _tell(self, record: Record) -> None:
        with self._guard:
            self._working[record.id] = record
        threading.Thread(target=self._follow, args=(record,), daemon=True).start()

    def _follow(self, record: Record) -> None:
        try:
            self._follow_to_its_end(record)
        except OSError as error:  # its record stays, for the next start
            self.slack.note(f"cannot tell of {record.words} ({record.id}) any more: {error}")

    def _follow_to_its_end(self, record: Record) -> None:
        status = self._followed(record)
        if status is None:
            return
        known = self._path(record, "ended")
        if not known.exists():
            self.audit.write("ended", request=record.id, user=record.user, channel=record.channel,
                             environment=record.environment, words=record.words, exit=status)
            known.touch()
        if not self._told(record, ended(record, status, self._output(record), self.hidden)):
            return
        for kind in ("json", "status", "ended"):
            self._path(record, kind).unlink(missing_ok=True)
        with self._guard:
            del self._working[record.id]

    def _told(self, record: Record, text: str) -> bool:
        """Say the last word, however long Slack is out of reach. False where we were stopped first;
        the record stays, and the next bot says it."""
        pause = self.patience
        while True:
            try:
                self.slack.post(record.channel, text, record.thread)
                return True
            except Unsaid as error:
                self.slack.note(str(error))
                if not error.passing:  # no such channel any more, for example
                    return True
            if self.stopping.wait(pause):
                return False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _followed(self, record: Record) -> int | None:
        """The exit status; None where we were stopped first."""
        head = f"{texts.code(record.words)} runs ({record.id})"
        message, shown, last = self.slack.say(record.channel, head, record.thread), head, 0.0
        while True:
            status = children.ended(self._path(record, "status"))
            if status is not None:
                head = f"{texts.code(record.words)} ended ({record.id})"
            text = texts.joined(head, texts.tail(self._output(record), self.hidden))
            due = status is not None or time.monotonic() - last >= PERIOD
            if text != shown and due:
                self.slack.change(record.channel, message, text)
                shown, last = text, time.monotonic()
            if status is not None:
                return status
            if self.stopping.wait(LOOK):
                return None

    def _output(self, record: Record) -> str:
        try:
            with self._path(record, "log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - READ))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""


def ended(record: Record, status: int, output: str, hidden: Sequence[str]) -> str:
    """The last word about a run."""
    how = "is done" if status == 0 else f"ended with exit status {status}"
    next_command = texts.following(output, status, record.environment)
    return texts.joined(
        f"<@{record.user}> {texts.code(record.words)} {how}: {texts.meaning(status)}",
        texts.tail(output, hidden), f"next: {texts.code(next_command)}" if next_command else "")
