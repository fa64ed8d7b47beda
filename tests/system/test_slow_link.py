"""A device that finds out how slow its link is, over a real Mosquitto behind a proxy with a rate."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from device_agent.effects import Identity
from device_agent.service import Agent, AgentSettings
from fedlp_edge.core.devices import DeviceFacts
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.transport.base import Received
from fedlp_edge.transport.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt import MqttTransport
from fedlp_edge.transport.url import BrokerAddress
from fedlp_edge.wire.messages import Status
from fedlp_edge.wire.topics import Topics
from tests.system.network import at_once
from tests.system.proxy import FaultyProxy
from tests.system.standin import StandIn
from tests.transport.clients import Client, connected

pytestmark = pytest.mark.system

RATE = 200_000.0
TOPICS = Topics("far")


def reported(agent: Agent, fleet: Client) -> DeviceFacts:
    """What the device says about itself."""
    fleet.subscribe(TOPICS.of("device", "+"))
    thread = threading.Thread(target=agent.run, daemon=True)
    thread.start()
    status = msgspec.json.decode(fleet.wait(Received).payload, type=Status)
    agent.stop()
    thread.join()
    assert status.facts is not None
    return status.facts


@pytest.mark.parametrize("profile", [DeviceProfile(), DeviceProfile(link_mbit_per_second=0.08)], ids=["open", "stated"])
def test_reports_the_rate_of_its_slow_link_or_the_slower_one_that_its_profile_states(
    tmp_path: Path, profile: DeviceProfile
) -> None:
    with (
        MosquittoBroker() as broker,
        FaultyProxy(broker.host, broker.port) as proxy,
        connected(broker.url, "fleet") as fleet,
    ):
        proxy.bytes_per_second = {"broker": RATE, "client": 10 * RATE}
        agent = Agent(
            AgentSettings(Identity(TOPICS, "dev-1", "0001"), "digits", tmp_path, profile),
            MqttTransport(BrokerAddress.parse(proxy.url, {}), "dev-1"),
            lambda sink: StandIn(sink, at_once),  # type: ignore[arg-type, return-value]
        )
        link = reported(agent, fleet).link_bytes_per_second

    assert link is not None
    if profile.link_bytes_per_second is None:
        assert RATE / 5 < link < 1.2 * RATE
    else:
        assert link == 10_000
