from __future__ import annotations

import pytest

from coordinator.transfer.refusals import BrokerRefusals
from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.base import Refused
from fedlp_edge.wire.topics import Topics

TOPICS = Topics("shop")
CHUNK = 1
"""Token of a chunk; all others are of other messages."""


class Refusing:
    """Refusals that reach a coordinator one by one, a second apart, and what it does about them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[int] = []
        self.refusals = BrokerRefusals(TOPICS, lambda: self.now)

    def take(self, refused: Refused) -> None:
        self.now += 1.0
        self.refusals.take(refused, self._handled)

    def _handled(self, token: int) -> bool:
        self.done.append(token)
        return token == CHUNK


def test_topic_of_devices_that_cannot_be_heard_ends_the_coordinator_and_its_own_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Refusing()
    broker.take(Refused(TOPICS.coordinator, "Not authorized"))
    assert caplog.messages == [
        "the broker refuses the subscription to fedlp/shop/coordinator: Not authorized; check its access rules for "
        "the coordinator's login"
    ]
    with pytest.raises(BrokerError, match=r"^the broker refuses the subscription to .*/up/.*: Not authorized; check"):
        broker.take(Refused(TOPICS.of("up", "+"), "Not authorized"))


def test_chunk_that_a_broker_forbids_is_told_once_and_one_that_is_too_long_is_sent_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Refusing()
    topic = TOPICS.of("model", "layer1")
    broker.take(Refused(topic, "70000 bytes are over the limit", CHUNK, too_long=True))
    assert caplog.messages == []
    broker.take(Refused(topic, "Not authorized", CHUNK))
    broker.take(Refused(topic, "Not authorized", CHUNK))
    assert caplog.messages == [
        f"the broker refuses {topic}: Not authorized; check its access rules for the coordinator's login"
    ]
    assert broker.done == [CHUNK, CHUNK, CHUNK]


def test_other_message_that_is_too_long_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Refusing().take(Refused(TOPICS.of("down", "a"), "70000 bytes are over the limit", 2, too_long=True))
    assert caplog.messages == ["the broker refuses a message on fedlp/shop/down/a: 70000 bytes are over the limit"]
