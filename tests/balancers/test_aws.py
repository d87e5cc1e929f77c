"""The driver of AWS target groups against moto, which plays AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine import aws
from fabfile.errors import Failed, Refused

CHECKOUT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"


class Cloud:
    """A target group with three targets; ``states`` overrule what moto says of a target."""

    def __init__(self, client: Any, vpc: str, patch: pytest.MonkeyPatch) -> None:
        self.client, self.states = client, dict[str, str]()
        self.arn: str = client.create_target_group(
            Name="web", Protocol="HTTP", Port=8000, VpcId=vpc, TargetType="ip",
        )["TargetGroups"][0]["TargetGroupArn"]
        self.delay(0)
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
            self.register(address)
        real = aws.Group.ask

        def ask(group: aws.Group, what: str, **more: Any) -> Mapping[str, Any]:
            answer = real(group, what, **more)
            for each in answer.get("TargetHealthDescriptions", ()):
                state = self.states.get(each["Target"]["Id"])
                each["TargetHealth"]["State"] = state or each["TargetHealth"]["State"]
            return answer

        patch.setattr(aws.Group, "ask", ask)
        patch.setattr(aws, "PAUSE", 0.02)

    def delay(self, seconds: int) -> None:
        pair = {"Key": aws.DELAY, "Value": str(seconds)}
        self.client.modify_target_group_attributes(TargetGroupArn=self.arn, Attributes=[pair])

    def register(self, address: str, port: int = 8000) -> None:
        self.client.register_targets(TargetGroupArn=self.arn,
                                     Targets=[{"Id": address, "Port": port}])

    @property
    def registered(self) -> list[str]:
        found = self.client.describe_target_health(TargetGroupArn=self.arn)
        return [each["Target"]["Id"] for each in found["TargetHealthDescriptions"]]

    def tell(self, action: str, target: str = "10.0.0.1", **changes: object) -> None:
        told = {"port": 8000, "min-up": 1, "deadline": 0.2, "up-deadline": 0.2, "region": REGION,
                "target-group": self.arn, "target": target, **changes}
        aws.main([action, *(word for key, value in told.items() for word in
                            (f"--{key}", str(value)))])


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    boto3 = missing_or("boto3")
    moto = missing_or("moto")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with moto.mock_aws():
        network = boto3.client("ec2", region_name=REGION)
        vpc = network.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        yield Cloud(boto3.client("elbv2", region_name=REGION), vpc, monkeypatch)


def missing_or(name: str) -> Any:
    """The module; where it is not installed a skip, in CI a failure."""
    return __import__(name) if os.environ.get("CI") else pytest.importorskip(name)


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    servers = json.loads(capsys.readouterr().out)["servers"]
    return {each["server"]: each["status"] for each in servers}


def test_out_and_in_again(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.tell("drain")
    assert answered(capsys) == {"10.0.0.2": "healthy", "10.0.0.3": "healthy"}
    cloud.tell("undrain")
    assert answered(capsys)["10.0.0.1"] == "healthy"
    cloud.tell("undrain")
    cloud.tell("look")
    assert sorted(cloud.registered) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_target_that_is_not_there(cloud: Cloud) -> None:
    with pytest.raises(Refused) as error:
        cloud.tell("drain", "10.0.0.9")
    assert str(error.value) == (
        f"10.0.0.9: no such target in {cloud.arn}; there are: 10.0.0.1:8000, 10.0.0.2:8000, "
        "10.0.0.3:8000")
    with pytest.raises(Refused, match="no such target"):
        cloud.tell("drain", port=80)


def test_the_floor(cloud: Cloud) -> None:
    cloud.states = {"10.0.0.2": "unhealthy"}
    with pytest.raises(Failed) as error:
        cloud.tell("drain", **{"min-up": "60%"})
    assert str(error.value) == (
        "10.0.0.1 stays in rotation: 1 other targets are healthy, and balancer.min_up=60% wants 2: "
        "10.0.0.2 unhealthy, 10.0.0.3 healthy")
    assert "10.0.0.1" in cloud.registered
    cloud.tell("drain", "10.0.0.2", **{"min-up": "60%"})  # takes nothing with it


def test_draining_that_lasts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    real = aws.Group.ask

    def ask(group: aws.Group, what: str, **more: Any) -> Mapping[str, Any]:
        """moto's targets are gone at once; this one drains for ever."""
        if what == "deregister_targets":
            cloud.states["10.0.0.1"] = "draining"
            return {}
        return real(group, what, **more)

    monkeypatch.setattr(aws.Group, "ask", ask)
    with pytest.raises(Failed) as error:
        cloud.tell("drain")
    assert str(error.value) == ("asked to deregister 10.0.0.1, it is draining after 0.2 s; it was "
                                "registered again")
    cloud.tell("drain", then="go-on")


def test_the_delay_of_aws_against_ours(cloud: Cloud) -> None:
    cloud.delay(300)
    with pytest.raises(Refused) as error:
        cloud.tell("drain", deadline=60)
    assert str(error.value) == (
        f"{cloud.arn}: its deregistration_delay.timeout_seconds is 300 s, for which AWS shows a "
        "target as draining whatever happens; make that shorter, or balancer.deadline (60 s) "
        "longer")
    cloud.tell("drain", then="go-on")
    assert "10.0.0.1" not in cloud.registered


def test_one_that_does_not_become_healthy(cloud: Cloud) -> None:
    cloud.tell("drain")
    cloud.states = {"10.0.0.1": "initial"}
    with pytest.raises(Failed) as error:
        cloud.tell("undrain")
    assert str(error.value) == (
        "asked to register 10.0.0.1, it is initial () after 0.2 s instead of healthy")


def test_a_group_that_is_not_there(cloud: Cloud) -> None:
    with pytest.raises(Failed, match="TargetGroupNotFound"):
        cloud.tell("drain", **{"target-group": cloud.arn + "x"})


def test_the_process_ends_with_words_not_with_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ImportError\n")
    words = ["-m", "fabfile.engine.aws", "look", "--target-group", "arn", "--target", "i-1"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "", "boto3 is not installed on the controller; in the checkout: "
               ".venv/bin/pip install -e '.[aws]'\n")
