"""Take a target out of an AWS target group and bring it back. Needs boto3: the extra ``aws``.

    python -P -m fabfile.engine.aws drain --target-group ARN --target i-0abc --port 8000

Credentials and region are found as boto3 always finds them. Prints the state of all targets as
JSON; every failure is one line on standard error and exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabfile.errors import FabfleetError, Failed, Refused

PAUSE = 2.0
UP, GONE = "healthy", "unused"
DELAY = "deregistration_delay.timeout_seconds"


class Group:
    """One target group, and the one target of it that is to change."""

    def __init__(self, client: Any, options: argparse.Namespace) -> None:
        self.client, self.options = client, options
        self.name: str = options.target
        self.wanted: dict[str, Any] = {"Id": options.target}
        if options.port:
            self.wanted["Port"] = options.port

    def ask(self, what: str, **more: Any) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = getattr(self.client, what)(
            TargetGroupArn=self.options.target_group, **more
        )
        return answer

    def targets(self) -> list[dict[str, Any]]:
        """All that are registered, and those that still drain."""
        found = self.ask("describe_target_health")["TargetHealthDescriptions"]
        return [{
            "balancer": self.options.target_group, "server": each["Target"]["Id"],
            "port": each["Target"].get("Port"), "status": each["TargetHealth"]["State"],
            "reason": each["TargetHealth"].get("Reason", ""),
            "up": each["TargetHealth"]["State"] == UP,
            "drained": each["TargetHealth"]["State"] in ("draining", GONE),
        } for each in found]

    def is_ours(self, target: Mapping[str, Any]) -> bool:
        port = self.options.port
        return bool(target["server"] == self.name and (not port or target["port"] == port))

    def ours(self) -> list[dict[str, Any]]:
        """Our entries. One id may stand there several times with other ports."""
        found = [each for each in self.targets() if self.is_ours(each)]
        if len(found) > 1:
            ports = ", ".join(str(each["port"]) for each in found)
            raise Refused(f"{self.name}: is in the target group with the ports {ports}; "
                          f"set balancer.port")
        return found

    def states(self) -> set[str]:
        return {each["status"] for each in self.ours()} or {GONE}

    def below_floor(self) -> str | None:
        known = [each for each in self.targets() if each["status"] not in ("draining", GONE)]
        others = [each for each in known if not self.is_ours(each)]
        up = [each for each in others if each["up"]]
        wanted = needed(self.options.min_up, len(known))
        if len(up) >= wanted:
            return None
        shown = ", ".join(f"{each['server']} {each['status']}" for each in others)
        return (f"{len(up)} other targets are healthy, and balancer.min_up="
                f"{self.options.min_up} wants {wanted}: {shown or 'there is none'}")

    def wait(self, seconds: float, ask: Callable[[], str | None]) -> str | None:
        """Ask until the answer is None; the last answer, which says what is still wrong."""
        deadline = time.monotonic() + seconds
        while (wrong := ask()) is not None and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return wrong

    def not_in(self, *states: str) -> str | None:
        found = self.states()
        return None if found <= set(states) else ", ".join(sorted(found))

    def drain(self) -> None:
        options = self.options
        ours = self.ours()
        if not ours:
            there = ", ".join(f"{each['server']}:{each['port']}" for each in self.targets())
            # AWS answers that all went well, also where there is nothing to take out.
            raise Refused(f"{self.name}: no such target in {options.target_group}; "
                          f"there are: {there or 'none'}")
        pairs = self.ask("describe_target_group_attributes")["Attributes"]
        delay = float({each["Key"]: each["Value"] for each in pairs}.get(DELAY, 0))
        if delay > options.deadline and options.then == "fail":
            raise Refused(f"{options.target_group}: its {DELAY} is {delay:g} s, for which AWS "
                          f"shows a target as draining whatever happens; make that shorter, or "
                          f"balancer.deadline ({options.deadline:g} s) longer")
        if ours[0]["up"]:
            wrong = self.wait(options.up_deadline, self.below_floor)
            if wrong:
                raise Failed(f"{self.name} stays in rotation: {wrong}")
        self.ask("deregister_targets", Targets=[self.wanted])
        left = self.wait(options.deadline, lambda: self.not_in(GONE))
        if left is None:
            return
        text = f"asked to deregister {self.name}, it is {left} after {options.deadline:g} s"
        if options.then == "go-on" and self.not_in("draining") is None:
            sys.stderr.write(f"going on: {text}\n")
            return
        self.ask("register_targets", Targets=[self.wanted])
        raise Failed(f"{text}; it was registered again")

    def undrain(self) -> None:
        self.ask("register_targets", Targets=[self.wanted])
        wrong = self.wait(self.options.up_deadline, lambda: self.not_in(UP))
        if wrong:
            reasons = ", ".join(each["reason"] for each in self.ours())
            raise Failed(f"asked to register {self.name}, it is {wrong} ({reasons}) after "
                         f"{self.options.up_deadline:g} s instead of {UP}")


def needed(min_up: str, total: int) -> int:
    """``min_up`` as a number: 2, or "50%" of all targets, rounded up."""
    return -(-int(min_up[:-1]) * total // 100) if min_up.endswith("%") else int(min_up)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="fabfile.engine.aws")
    found.add_argument("action", choices=("drain", "undrain", "look"))
    found.add_argument("--target-group", required=True)
    found.add_argument("--region")
    found.add_argument("--target", required=True)
    found.add_argument("--port", type=int, default=0)
    found.add_argument("--min-up", default="1")
    found.add_argument("--deadline", type=float, default=300)
    found.add_argument("--up-deadline", type=float, default=60)
    found.add_argument("--then", choices=("fail", "go-on"), default="fail")
    return found


def main(words: Sequence[str]) -> None:
    options = parser().parse_args(words)
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise Failed("boto3 is not installed on the controller; "
                     "in the checkout: .venv/bin/pip install -e '.[aws]'") from None
    try:
        group = Group(boto3.client("elbv2", region_name=options.region), options)
        if options.action == "drain":
            group.drain()
        elif options.action == "undrain":
            group.undrain()
        print(json.dumps({"servers": group.targets()}))
    except (BotoCoreError, ClientError) as error:
        raise Failed(f"{options.target_group}: {error}") from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FabfleetError as problem:
        sys.exit(str(problem))
