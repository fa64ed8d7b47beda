from __future__ import annotations

import json

from fedlp_edge.cli.fleet.roster import DeviceEntry, FleetEntry, RunNews, fleets_of
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.transport.diagnostics.client import ReceivedMessage
from fedlp_edge.wire.messages import Announcement, Claim, Status, encode

GONE = {"device": "cam.01", "online": False, "session": "s", "version": "0.1.0"}


def kept(topic: str, payload: bytes) -> ReceivedMessage:
    return ReceivedMessage(topic, payload, retained=True)


def status(**fields: object) -> bytes:
    return encode(Status(**{**GONE, **fields}))  # type: ignore[arg-type]


def devices_of(payload: bytes) -> tuple[DeviceEntry, ...]:
    return fleets_of([kept("fedlp/shop/device/cam~01", payload)])[0].devices


def test_a_device_is_there_away_or_ended() -> None:
    facts = DeviceFacts(training_memory=1, training_macs_per_second=2.0, samples=3)

    assert devices_of(status(online=True, facts=facts)) == (
        DeviceEntry(id="cam.01", state="there", version="0.1.0", protocol=7, facts=facts),
    )
    assert [devices_of(status(ended=ended))[0].state for ended in (False, True)] == ["away", "ended"]


def test_a_device_that_another_version_speaks_for_is_listed() -> None:
    assert devices_of(b'{"type":"Hello"}') == (DeviceEntry(id="cam.01", state="unknown"),)


def test_what_was_removed_is_not_there() -> None:
    messages = [kept("fedlp/shop/device/pi", status()), ReceivedMessage("fedlp/shop/device/pi", b"", retained=False)]
    assert fleets_of(messages) == []


def test_fleets_and_their_devices_are_in_order_of_their_names() -> None:
    announced = Announcement(online=True, run="r-1", session="s", state="running")
    state = {"phase": "round", "round": 7, "rounds": 30, "metric": "accuracy", "value": 0.5, "later": [1]}
    messages = [
        kept("fedlp/shop/device/b", status()),
        kept("fedlp/shop/device/a", status(ended=True)),
        kept("fedlp/barn~2/coordinator", encode(announced)),
        kept("fedlp/barn~2/state", json.dumps(state).encode()),
    ]

    barn, shop = fleets_of(messages)

    news = RunNews(phase="round", round=7, rounds=30, metric="accuracy", value=0.5)
    assert barn == FleetEntry(fleet="barn.2", coordinator=announced, news=news)
    assert [(device.id, device.state) for device in shop.devices] == [("a", "ended"), ("b", "away")]
    assert shop.coordinator is shop.news is None


def test_a_claim_or_noise_is_no_announcement_and_no_state() -> None:
    assert fleets_of([kept("fedlp/shop/coordinator", encode(Claim(session="s", run="r")))]) == []
    assert fleets_of([kept("fedlp/shop/state", b"\xff{"), kept("fedlp/shop/state", b"[1]")]) == []


def test_words_from_others_are_safe_to_print() -> None:
    news = fleets_of([kept("fedlp/shop/state", b'{"note":"a\\u001b[2Jb"}')])[0].news
    assert news is not None
    assert news.note == "a\\x1b[2Jb"
