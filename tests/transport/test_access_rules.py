"""The access rules that docs/security.md recommends, on a real Mosquitto."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.transport.base import Received, Refused
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker

from .clients import connected, password_entry

ROOT = Path(__file__).parents[2]
FLEET = "fedlp/greenhouse"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoBroker]:
    """A broker with the documented rules and the users coordinator, pi-1 and pi-2, whose passwords are their names."""
    directory = tmp_path_factory.mktemp("ruled")
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "docs/security.md").read_text(encoding="utf-8"), re.DOTALL)
    (directory / "rules").write_text(next(block for block in blocks if block.startswith("user coordinator")))
    users = ("coordinator", "pi-1", "pi-2")
    (directory / "passwords").write_text("".join(password_entry(user, user) for user in users))
    for file in directory.iterdir():
        file.chmod(0o600)
    extra = [f"password_file {directory / 'passwords'}", f"acl_file {directory / 'rules'}"]
    with MosquittoBroker(extra=extra, anonymous=False) as broker:
        yield broker


@pytest.mark.parametrize(
    "leaf", ["device/pi-2", "up/pi-2", "upload/pi-2", "echo/pi-2", "down/pi-1", "model/L1", "coordinator"]
)
def test_device_cannot_publish_as_another_party(ruled: MosquittoBroker, leaf: str) -> None:
    address = BrokerSettings(url=ruled.url, username="pi-1", password="pi-1").address({})
    with connected(address, "pi-1") as device:
        token = device.transport.publish(f"{FLEET}/{leaf}", b"forged")

        assert device.wait(Refused).token == token


def test_device_hears_only_what_is_meant_for_it_and_the_coordinator_hears_all_devices(ruled: MosquittoBroker) -> None:
    boss = BrokerSettings(url=ruled.url, username="coordinator", password="coordinator").address({})
    own = BrokerSettings(url=ruled.url, username="pi-1", password="pi-1").address({})
    with connected(boss, "coordinator") as coordinator, connected(own, "pi-1") as device:
        device.subscribe(f"{FLEET}/#")
        coordinator.subscribe(f"{FLEET}/up/+")
        others = ("down/pi-2", "repeat/pi-2", "device/pi-2", "up/pi-2", "upload/pi-2", "echo/pi-2")
        for leaf in (*others, "down/pi-1", "model/L1"):
            coordinator.transport.publish(f"{FLEET}/{leaf}", b"x")
        assert coordinator.wait(Received).topic == f"{FLEET}/up/pi-2"
        device.transport.publish(f"{FLEET}/up/pi-1", b"x")

        assert [device.wait(Received).topic for _ in range(2)] == [f"{FLEET}/down/pi-1", f"{FLEET}/model/L1"]
        assert coordinator.wait(Received).topic == f"{FLEET}/up/pi-1"


def test_device_hears_its_own_echo(ruled: MosquittoBroker) -> None:
    own = BrokerSettings(url=ruled.url, username="pi-1", password="pi-1").address({})
    with connected(own, "pi-1") as device:
        device.subscribe(f"{FLEET}/echo/pi-1")
        device.transport.publish(f"{FLEET}/echo/pi-1", b"x")

        assert device.payloads(1) == [b"x"]
