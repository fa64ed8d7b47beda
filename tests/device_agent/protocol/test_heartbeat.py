"""An idle device speaks up, so that no lost message leaves it without work for ever."""

from __future__ import annotations

from itertools import pairwise

from device_agent.limits import LIMITS
from device_agent.protocol.events import DeviceMeasured, Identity, Log, Stop, Tick
from device_agent.protocol.heartbeat import Heartbeat, Remeasurement
from fedlp_edge.transport.base import Connected, Disconnected
from fedlp_edge.wire.messages import Announcement, Ready, Registered, RunEnded, Status
from tests.device_agent.support import (
    BROKER_LIMITS,
    FACTS,
    TOPICS,
    Device,
    announcement,
    assignment,
    coordinator_of,
    only,
    published,
    task,
)


def test_speaks_up_less_and_less_often() -> None:
    heartbeat = Heartbeat(Identity(TOPICS, "pi", "s"), coordinator_of("run"))
    heartbeat.restart(0.0)
    times = []
    for _ in range(6):
        now = heartbeat.next_wakeup()
        assert now is not None
        assert not heartbeat.due(now - 0.01)
        assert heartbeat.due(now)
        times.append(now)
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert LIMITS.presence.heartbeat_first_seconds <= times[0] <= 1.5 * LIMITS.presence.heartbeat_first_seconds
    assert gaps == sorted(gaps)
    assert LIMITS.presence.heartbeat_longest_seconds <= gaps[-1] <= 1.5 * LIMITS.presence.heartbeat_longest_seconds


def test_devices_that_heard_the_same_do_not_speak_up_at_the_same_moment() -> None:
    fleet = [Heartbeat(Identity(TOPICS, f"dev-{number}", "s"), coordinator_of("run")) for number in range(100)]
    for heartbeat in fleet:
        heartbeat.restart(0.0)

    assert len({heartbeat.next_wakeup() for heartbeat in fleet}) == 100


def test_says_again_that_it_is_there_and_ready_when_no_task_comes() -> None:
    device = Device().join()
    due = device.machine.next_wakeup()
    assert due is not None
    assert [type(message) for message in published(device.handle(Tick(), due))] == [Status, Ready]
    assert device.machine.next_wakeup() > due + LIMITS.presence.heartbeat_first_seconds


def reports_to_nobody(device: Device) -> list[str]:
    """The warnings of a device that goes on reporting, without an answer, for ten minutes."""
    warnings, now = [], 0.0
    while now < 600.0:
        due = device.machine.next_wakeup()
        now = max(now, due if due is not None else 600.0)
        warnings += [e.text for e in device.handle(Tick(), now) if isinstance(e, Log) and e.warning]
    return warnings


def test_does_not_take_a_roll_out_for_deaf_that_has_not_come_to_its_group() -> None:
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    device.receive(TOPICS.coordinator, announcement("deploy-spring-647a11"), retained=True)

    assert reports_to_nobody(device) == []


def test_says_once_that_none_of_its_reports_was_answered() -> None:
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    device.receive(TOPICS.coordinator, announcement(), retained=True)

    (warning,) = reports_to_nobody(device)

    assert "answered none of 3 reports" in warning
    assert "publish on fedlp/demo/device/pi and read fedlp/demo/down/pi?" in warning


def test_says_once_that_the_coordinator_knows_it_and_goes_on_reporting_at_its_pace() -> None:
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    device.receive(TOPICS.coordinator, announcement(), retained=True)
    due = device.machine.next_wakeup()
    told = [device.down(Registered(run="run", device="pi", reason="the fleet waits for 2 others")) for _ in "ab"]
    notes = [[effect.text for effect in effects if isinstance(effect, Log)] for effects in told]
    assert notes == [["the coordinator knows this device; the fleet waits for 2 others"], []]
    assert device.machine.next_wakeup() == due
    assert reports_to_nobody(device) == []


def test_does_not_complain_of_a_coordinator_that_has_answered_and_has_nothing_to_do() -> None:
    assert reports_to_nobody(Device().join()) == []


def test_does_not_speak_up_while_it_has_work_or_nobody_listens() -> None:
    busy = Device().join()
    busy.down(task(deadline_seconds=1000.0))
    assert not any(isinstance(message, Ready) for message in published(busy.handle(Tick(), 100.0)))

    alone = Device().join()
    alone.receive(TOPICS.coordinator, announcement(online=False))
    assert alone.machine.next_wakeup() is None
    assert published(alone.handle(Tick(), 100.0)) == []

    apart = Device().join()
    apart.handle(Disconnected("cut"))
    assert apart.machine.next_wakeup() is None


def test_does_not_ask_again_for_an_assignment_that_it_cannot_take() -> None:
    device = Device().join()
    device.down(assignment(digest="0" * 64))
    assert device.machine.next_wakeup() is None
    device.down(assignment())
    assert device.machine.next_wakeup() is not None


def test_ends_when_the_run_is_finished_and_the_message_of_it_was_lost() -> None:
    device = Device(once=True).join()
    last_word = Announcement(online=False, run="run", session="s1", state="finished")
    effects = device.receive(TOPICS.coordinator, last_word)

    assert [effect.text for effect in effects if isinstance(effect, Log)][-1] == "run run is over"
    assert only(effects, Stop).error is None


def test_offline_announcement_of_a_finished_coordinator_does_not_end_the_fetch_of_the_final_model() -> None:
    device = Device(once=True).join()
    device.down(RunEnded(run="run", device="pi", rounds=2))
    effects = device.receive(
        TOPICS.coordinator, Announcement(online=False, run="run", session="s1", state="finished"), retained=True
    )

    assert not any(isinstance(effect, Stop) for effect in effects)


def test_refused_device_measures_itself_less_and_less_often_until_it_is_accepted() -> None:
    coordinator = coordinator_of("run")
    remeasurement = Remeasurement(coordinator)
    assert remeasurement.next_wakeup() is None
    remeasurement.refused(100.0)
    remeasurement.refused(150.0)  # a repeat of the same message
    times = []
    for _ in range(8):
        now = remeasurement.next_wakeup()
        assert now is not None
        assert not remeasurement.due(now - 0.01)
        assert remeasurement.due(now)
        times.append(now - 100.0)
    assert times == [60.0, 180.0, 420.0, 900.0, 1860.0, 3780.0, 7380.0, 10980.0]

    remeasurement.accepted()
    assert remeasurement.next_wakeup() is None
    remeasurement.refused(0.0)
    assert remeasurement.next_wakeup() == 60.0
    coordinator.announce(announcement("run", online=False), 0.0)
    assert remeasurement.next_wakeup() is None
