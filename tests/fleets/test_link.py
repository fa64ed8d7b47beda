"""A device that finds out how fast its link is: a whole agent over real brokers, one of them behind a slow link."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from device_agent.protocol.events import Identity
from device_agent.service import Agent, AgentSettings
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import Received
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.messages import Status
from fedlp_edge.wire.topics import Topics
from tests.fleets.network import at_once
from tests.fleets.proxy import FaultyProxy
from tests.fleets.standin import StandIn
from tests.transport.clients import connected

pytestmark = pytest.mark.system

RATE = 200_000.0
TOPICS = Topics("far")


def reported_link(state: Path, url: str, watcher: str, profile: DeviceProfile | None = None) -> float | None:
    """What a device that reaches the broker at ``url`` says about its link, as heard at ``watcher``."""
    agent = Agent.open(
        AgentSettings(Identity(TOPICS, "dev-1", "0001"), "digits", state, profile or DeviceProfile()),
        MqttTransport(BrokerAddress.parse(url, {}), "dev-1"),
        lambda sink: StandIn(sink, at_once),  # type: ignore[arg-type, return-value]
    )
    thread = threading.Thread(target=agent.run, daemon=True)
    with connected(watcher, "watcher") as fleet:
        fleet.subscribe(TOPICS.of("device", "+"))
        thread.start()
        status = msgspec.json.decode(fleet.wait(Received).payload, type=Status)
        agent.stop()
        thread.join()
    assert status.facts is not None
    return status.facts.link_bytes_per_second


@pytest.mark.parametrize("stated", [None, 0.08])
def test_reports_its_slow_link_or_the_slower_one_that_its_profile_states(tmp_path: Path, stated: float | None) -> None:
    with MosquittoBroker() as broker, FaultyProxy(broker.host, broker.port) as proxy:
        proxy.bytes_per_second = {"broker": RATE, "client": 10 * RATE}
        link = reported_link(tmp_path, proxy.url, broker.url, DeviceProfile(link_mbit_per_second=stated))

    assert link is not None
    assert link == 10_000 if stated else RATE / 5 < link < 1.2 * RATE


@pytest.mark.parametrize("broker", [MosquittoBroker, EmbeddedBroker])
def test_hears_its_echo(tmp_path: Path, broker: type[MosquittoBroker | EmbeddedBroker]) -> None:
    with broker() as running:
        link = reported_link(tmp_path, running.url, running.url)

    assert link is not None
    assert link > RATE


@pytest.mark.parametrize(
    ("rule", "words"),
    [("", "the broker refuses"), (f"topic write {TOPICS.of('echo', '+')}\n", "nothing comes back on")],
    ids=["refused", "swallowed"],
)
def test_reports_without_a_link_under_rules_that_know_no_echo(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str, words: str
) -> None:
    rules = tmp_path / "rules"
    rules.write_text(f"topic readwrite {TOPICS.of('device', '+')}\n{rule}")
    rules.chmod(0o600)
    with MosquittoBroker(extra=[f"acl_file {rules}"]) as running:
        link = reported_link(tmp_path / "state", running.url, running.url)

    assert link is None
    notes = [record.getMessage() for record in caplog.records if record.name == "device_agent.service"]
    assert [note for note in notes if note.startswith(f"link: unknown: {words} fedlp/far/echo/dev-1")]
