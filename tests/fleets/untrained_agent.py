"""``python -m tests.fleets.untrained_agent URL FLEET ID STATE``: an agent that never trains, and needs no torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from device_agent.config import new_session
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.topics import Topics
from tests.fleets.standin import StandIn, profile_of


def untrained_agent(url: str, fleet: str, device: str, state: Path) -> Agent:
    """The whole agent but for its worker."""
    identity = Identity(Topics(fleet), device, new_session())
    will = LastWill(identity.topics.of("device", device), encode(status(identity, None)))
    return Agent.open(
        AgentSettings(identity, "digits", state, profile_of(device), measure_link=False),
        MqttTransport(BrokerAddress.parse(url, {}), f"{fleet}-{device}-{identity.session}", will),
        lambda sink: StandIn(sink, at_once),  # type: ignore[arg-type, return-value]
    )


def at_once(seconds: float, action: Callable[[], None]) -> None:
    """No job takes time."""
    del seconds
    action()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    untrained_agent(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])).run()
