"""Limits: announced, of a preset, or configured; and the pace of hosted brokers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fedlp_edge.errors import ConfigError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.base import BrokerLimits, Delivered
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.broker_limits import limits_of
from fedlp_edge.transport.presets import PRESETS, recognise
from fedlp_edge.wire.chunks import HEADER_BYTES, chunk_bytes_for
from fedlp_edge.wire.topics import Topics

from .clients import connected


def limits(settings: BrokerSettings, packet: int | None = None, receive: int | None = None) -> BrokerLimits:
    return limits_of(settings.address({}), "5", packet, receive)


def test_chunks_stay_within_a_payload_limit_that_is_below_the_packet_limit() -> None:
    announced_by_aws = 149_504

    size = chunk_bytes_for(limits(BrokerSettings(preset="aws-iot"), announced_by_aws, 100))

    assert size + HEADER_BYTES <= 128 * 1024


def test_preset_may_come_from_the_environment_and_is_checked() -> None:
    assert BrokerAddress.parse("mqtt://b", {"FEDLP_BROKER_PRESET": "hivemq"}).preset is PRESETS["hivemq"]
    assert BrokerSettings(preset="emqx").address({"FEDLP_BROKER_PRESET": "hivemq"}).preset is PRESETS["emqx"]
    with pytest.raises(ConfigError, match="use one of generic, mosquitto, emqx"):
        BrokerAddress.parse("mqtt://b", {"FEDLP_BROKER_PRESET": "rabbit"})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_carries_a_fleets_topics_and_messages(preset: object) -> None:
    kind = PRESETS[preset.name]  # type: ignore[attr-defined]
    longest = Topics("f" * 64).of("upload", "d" * 64)

    assert len(longest) <= kind.topic_bytes
    assert kind.topic_slashes is None or longest.count("/") <= kind.topic_slashes
    assert kind.max_qos >= 1
    assert chunk_bytes_for(limits(BrokerSettings(preset=kind.name))) >= 64 * 1024


def test_documentation_has_the_figures_of_every_preset() -> None:
    text = (Path(__file__).parents[2] / "docs/brokers.md").read_text(encoding="utf-8")
    rows = {row[1].strip("` "): [cell.strip() for cell in row[2:-1]] for row in _rows(text)}

    def shown(figure: float | None) -> str:
        return "-" if figure is None else f"{figure:.0f}"

    for name, preset in PRESETS.items():
        figures = (
            preset.max_packet_bytes,
            preset.max_queued_messages,
            preset.receive_maximum,
            preset.publishes_per_second,
            preset.bytes_per_second,
            preset.subscriptions,
        )
        assert rows[name] == [shown(figure) for figure in figures], name


def _rows(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(
    ("host", "version", "name"),
    [
        ("abc-ats.iot.eu-central-1.amazonaws.com", "", "aws-iot"),
        ("fleet.westeurope-1.ts.eventgrid.azure.net", "", "azure-event-grid"),
        ("x.s1.eu.hivemq.cloud", "", "hivemq"),
        ("10.0.0.1", "mosquitto version 2.0.11", "mosquitto"),
        ("10.0.0.1", "EMQX 5.8.0", "emqx"),
        ("10.0.0.1", "", "generic"),
        ("amazonaws.com.example", "", "generic"),
    ],
)
def test_recognises_brokers(host: str, version: str, name: str) -> None:
    assert recognise(host, version).name == name


def test_transport_publishes_no_faster_than_the_preset_says(mosquitto: MosquittoBroker) -> None:
    address = BrokerSettings(url=mosquitto.url, preset="aws-iot").address({})
    with connected(address, "paced") as client:
        began = time.monotonic()
        last = [client.transport.publish("paced/x", b"x") for _ in range(75)][-1]
        client.wait(Delivered, lambda event: event.token == last)

    assert 0.4 < time.monotonic() - began < 5.0  # 25 at once, 50 at 100 a second
