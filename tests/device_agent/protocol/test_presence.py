# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
from __future__ import annotations

import msgspec
import pytest

from device_agent.limits import LIMITS
from device_agent.protocol.events import (
    DeviceMeasured,
    Leave,
    Publish,
    ServingReported,
    Stop,
    Subscribe,
    Tick,
)
from device_agent.protocol.presence import Presence, status
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.transport.base import Connected
from fedlp_edge.wire.messages import Status
from tests.device_agent.support import (
    BROKER_LIMITS,
    FACTS,
    ME,
    TOPICS,
    Device,
    coordinator_of,
    only,
    published,
    task,
)


def test_starts_by_listening_to_its_four_topics():
    effects = Device().machine.start()
    assert [e.topic for e in effects if isinstance(e, Subscribe)] == [
        "fedlp/demo/coordinator",
        "fedlp/demo/device/pi",
        "fedlp/demo/down/pi",
        "fedlp/demo/repeat/pi",
    ]


@pytest.mark.parametrize(
    "order", [(Connected(BROKER_LIMITS), DeviceMeasured(FACTS)), (DeviceMeasured(FACTS), Connected(BROKER_LIMITS))]
)
def test_announces_itself_when_connected_and_measured(order):
    device = Device()
    assert published(device.handle(order[0])) == []
    publish = only(device.handle(order[1]), Publish)
    assert (publish.topic, publish.retain) == ("fedlp/demo/device/pi", True)
    assert publish.message.facts == FACTS
    assert publish.message.online


def test_repairs_its_status_when_an_old_last_will_overwrites_it():
    device = Device().join()
    will = Status(device="pi", online=False, session="0001-a")
    assert only(device.receive(TOPICS.of("device", "pi"), will), Publish).message.online


def test_repairs_its_status_when_somebody_removes_it_from_the_broker():
    device = Device().join()
    assert only(device.receive(TOPICS.of("device", "pi"), b""), Publish).message.online


def test_stops_when_an_older_agent_with_its_name_speaks_up():
    device = Device().join()
    other = Status(device="pi", online=True, session="0001-a", facts=FACTS)
    assert device.receive(TOPICS.of("device", "pi"), other, now=1.0) == []
    assert only(device.handle(Tick(), now=4.0), Publish).message.session == ME.session
    assert "already connected" in only(device.receive(TOPICS.of("device", "pi"), other, now=4.1), Stop).error
    assert device.handle(Leave()) == []  # no goodbye under a name that belongs to the other one


def test_copies_of_a_status_of_an_earlier_life_stop_nobody():
    presence = Presence(ME, coordinator_of())
    presence.measured(FACTS)
    copy = Status(device="pi", online=True, session="0001-a", facts=FACTS, settled=True)
    presence.tick(1.0)
    for _ in range(40):  # a bridge has kept it, and hands on what is new as well as what was retained
        assert presence.on_status(copy, retained=False) == []
    assert (presence.contested, presence.next_wakeup()) == (True, 4.0)
    presence.tick(4.0)
    assert [message.session for message in statuses(presence.poll())] == [ME.session]
    presence.tick(7.0)
    assert presence.poll() == []
    assert (presence.contested, presence.next_wakeup()) == (False, None)
    assert presence.on_status(copy, retained=False) == []


def test_takes_no_work_while_its_name_may_be_the_name_of_another_agent():
    device = Device().join()
    device.receive(TOPICS.of("device", "pi"), Status(device="pi", online=True, session="0001-a", facts=FACTS), now=1.0)
    assert device.down(task(), now=2.0) == []
    device.handle(Tick(), now=4.0)
    device.handle(Tick(), now=7.0)
    assert device.down(task(), now=7.5) != []


def test_repeats_its_status_when_a_newer_agent_takes_its_name():
    device = Device().join()
    other = Status(device="pi", online=True, session="0003-c", facts=FACTS)
    effects = device.receive(TOPICS.of("device", "pi"), other)
    assert only(effects, Publish).message.session == ME.session


def test_ignores_a_retained_status_of_an_earlier_life():
    device = Device().join()
    before = Status(device="pi", online=True, session="0001-a", facts=FACTS)
    assert device.receive(TOPICS.of("device", "pi"), before, retained=True) == []


def test_says_goodbye_when_told_to_leave():
    message = only(Device().join().handle(Leave()), Publish).message
    assert (message.online, message.facts, message.ended) == (False, None, True)


def statuses(effects):
    return [effect.message for effect in effects if isinstance(effect, Publish)]


def test_counts_its_reports_and_tells_a_link_rate_that_it_finds_out_later():
    presence = Presence(ME, coordinator_of())
    assert presence.linked(500.0) == []
    assert [message.revision for message in statuses(presence.measured(FACTS))] == [1]
    (message,) = statuses(presence.linked(500.0))
    assert (message.revision, message.facts) == (2, msgspec.structs.replace(FACTS, link_bytes_per_second=500.0))


def test_is_settled_after_a_while_and_then_yields_to_nobody_who_is_not():
    presence = Presence(ME, coordinator_of())
    presence.tick(10.0)
    assert [message.settled for message in statuses(presence.measured(FACTS))] == [False]
    presence.tick(10.0 + LIMITS.presence.settled_seconds)
    newcomer = Status(device="pi", online=True, session="0001-a", facts=FACTS)
    (answer,) = presence.on_status(newcomer, retained=False)
    assert answer.message.settled
    presence.tick(20.0)
    assert len(presence.poll()) == 1
    note, publish = presence.on_status(newcomer, retained=False)
    assert note.text == 'another agent tried to join as device "pi"; it is told to stop'
    assert publish.message.settled
    assert not presence.contested
    settled = msgspec.structs.replace(newcomer, settled=True, facts=msgspec.structs.replace(FACTS, hostname="shed"))
    assert presence.on_status(settled, retained=False) == [
        Stop('another agent on shed is already connected as device "pi"; give this one an --id of its own')
    ]


def test_says_that_a_device_without_facts_is_offline():
    gone = status(ME, None)
    assert (gone.device, gone.session, gone.online, gone.facts) == ("pi", "0002-b", False, None)
    assert status(ME, FACTS, revision=3).online


def test_tells_what_its_model_answers_while_that_is_news():
    device = Device().join()
    report = ServingReport(file="m.onnx", answers=3, labels={"nut": 3})
    assert only(device.handle(ServingReported(report)), Publish).message.serving == report
    assert published(device.handle(ServingReported(report))) == []
    more = msgspec.structs.replace(report, refused=1)
    assert only(device.handle(ServingReported(more)), Publish).message.serving == more
