"""How a device answers the coordinator's question whether the broadcast still reaches it."""

from __future__ import annotations

import pytest

from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.messages import Progress
from tests.device_agent.support import TOPICS, Device, blob, chunks, published, task, version


@pytest.mark.parametrize("known", [True, False], ids=["with its task", "before its task"])
def test_reports_a_chunk_of_the_broadcast_that_asks(known: bool):
    device = Device().join()
    if known:
        device.down(task())
    content = blob("L1")
    payload = next(split(content, version("L1", content).digest, 40, [(0, 1)], report=True))

    effects = device.receive(TOPICS.of("model", "L1"), payload)

    (message,) = [message for message in published(effects) if isinstance(message, Progress)]
    assert message == Progress(run="run", device="pi", unit="L1", blob=version("L1", content).digest[:32], index=0)


def test_does_not_report_what_does_not_ask_or_was_sent_to_it_alone():
    device = Device().join()
    content = blob("L1")
    (asking,) = split(content, version("L1", content).digest, 1000, report=True)

    effects = device.receive(TOPICS.of("model", "L1"), chunks(content, 1000)[0])
    effects += device.receive(TOPICS.of("repeat", "pi"), asking)

    assert [message for message in published(effects) if isinstance(message, Progress)] == []
