"""``fedlp fleet`` at real brokers: with devices, with nobody, with another version's devices, and with access rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.cli.fleet.fleet_list import run_fleet
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.errors import BrokerError, ConfigError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.wire.messages import Announcement, Status, encode
from tests.transport.clients import connected, password_entry

FACTS = DeviceFacts(
    hostname="camera",
    architecture="aarch64",
    training_memory=1_500_000_000,
    cores=4.0,
    training_macs_per_second=12.34e9,
    link_bytes_per_second=5e6,
    samples=1438,
    profile="raspberry-pi-4",
    temperature_celsius=61.4,
    throttled=True,
)


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"FEDLP_BROKER_{name}", raising=False)


@pytest.fixture
def broker() -> Iterator[MosquittoBroker]:
    with MosquittoBroker() as running:
        yield running


def keep(url: str | BrokerAddress, messages: dict[str, bytes]) -> None:
    """Leaves retained messages at a broker."""
    with connected(url, "keeper") as client:
        for topic in messages:
            client.subscribe(topic)
        for topic, payload in messages.items():
            client.transport.publish(topic, payload, retain=True)
        client.payloads(len(messages))


def status(device: str, **fields: object) -> bytes:
    return encode(Status(**{"device": device, "online": True, "session": "s", **fields}))  # type: ignore[arg-type]


def test_lists_a_coordinator_with_its_run_and_all_devices(
    broker: MosquittoBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"round": 7, "rounds": 30, "metric": "accuracy", "value": 0.914, "note": "3 train", "trouble": "1 is slow"}
    messages = {
        "fedlp/shop/coordinator": encode(Announcement(online=True, run="shop-1", session="s", state="running")),
        "fedlp/shop/state": json.dumps(state).encode(),
        "fedlp/shop/device/cam~01": status("cam.01", facts=FACTS),
        "fedlp/shop/device/old": status("old", protocol=3),
        "fedlp/shop/device/pi": status("pi", online=False),
    }
    keep(broker.url, messages)

    assert run_fleet(broker.url, None, None, as_json=False) == 0

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "shop 2 of 3 devices there",
        "coordinator there, run shop-1, running",
        "round 7 of 30, accuracy 91.4 %: 3 train",
        "1 is slow",
    ]
    assert lines[5:8] == [
        "cam.01 there camera, aarch64, 4 cores 1.5 GB 12.3 GMAC/s 40 Mbit/s 1,438 "
        "profile raspberry-pi-4, throttled, 61 °C",
        "old there - - - - - speaks protocol 3, this is 7: update the older side",
        "pi away - - - - -",
    ]


def test_says_that_a_coordinator_speaks_another_protocol(
    broker: MosquittoBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = Announcement(online=True, run="shop-1", session="s", state="waiting", protocol=8)
    keep(broker.url, {"fedlp/shop/coordinator": encode(newer)})

    assert run_fleet(broker.url, None, None, as_json=False) == 0

    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:3]] == [
        "coordinator there, run shop-1, waiting",
        "speaks protocol 8, this is 7: update the older side",
    ]


def test_lists_one_fleet_as_json(broker: MosquittoBroker, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keep(broker.url, {f"fedlp/{fleet}/device/pi": status("pi") for fleet in ("barn", "shop")})
    (tmp_path / "fleet.toml").write_text(f'fleet = "barn"\n[broker]\nurl = "{broker.url}"\n')

    assert run_fleet(None, tmp_path / "fleet.toml", None, as_json=True) == 0

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["fleet"] == "barn"
    assert json.loads(line)["devices"][0]["state"] == "there"


def test_says_that_nobody_is_there(broker: MosquittoBroker, capsys: pytest.CaptureFixture[str]) -> None:
    keep(broker.url, {"fedlp/barn/device/pi": status("pi")})

    assert run_fleet(broker.url, None, "shop", as_json=False) == 1

    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"No agent or coordinator of fleet shop has been at {broker.url}, or this login may not")
    assert said.endswith("without --fleet all fleets are listed.")


def test_a_login_with_rules_sees_what_it_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules").write_text("user coordinator\ntopic readwrite fedlp/shop/#\nuser guest\ntopic read other/#\n")
    (tmp_path / "passwords").write_text("".join(password_entry(user, user) for user in ("coordinator", "guest")))
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    extra = [f"password_file {tmp_path / 'passwords'}", f"acl_file {tmp_path / 'rules'}"]
    with MosquittoBroker(extra=extra, anonymous=False) as broker:
        for user, seen in (("coordinator", 0), ("guest", 1)):
            monkeypatch.setenv("FEDLP_BROKER_USERNAME", user)
            monkeypatch.setenv("FEDLP_BROKER_PASSWORD", user)
            if user == "coordinator":
                keep(BrokerSettings(url=broker.url).address(), {"fedlp/shop/device/pi": status("pi", online=False)})
            assert run_fleet(broker.url, None, None, as_json=False) == seen

    said = capsys.readouterr().out
    assert "no coordinator has been there" in said
    assert "No agent or coordinator of any fleet has been at" in said


def test_says_where_no_broker_is() -> None:
    with pytest.raises(BrokerError, match=r"nothing listens at mqtt://127\.0\.0\.1:9"):
        run_fleet("mqtt://127.0.0.1:9", None, None, as_json=False)
    with pytest.raises(ConfigError, match=r"name a broker: fedlp fleet mqtt://HOST"):
        run_fleet(None, None, None, as_json=False)
