"""The course of a roll-out: what opens a group, what ends it all, and that a restart changes nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.rollout.rollout_events import (
    DeviceAdded,
    DeviceSettled,
    GroupOpened,
    InstallOrdered,
    JournaledEvent,
    OrderInstall,
    RolloutAborted,
    RolloutBegan,
    RolloutPaused,
    RolloutResumed,
)
from fedlp_edge.core.rollout.rollout_machine import RolloutMachine
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings


class Played:
    """A machine, and its journal as the process around it would write it."""

    def __init__(self, *groups: tuple[str, ...], online: bool = True, **choices: object) -> None:
        self.settings = RolloutSettings(**choices)
        self.machine = RolloutMachine(self.settings)
        self.journal: list[JournaledEvent] = []
        self.told: list[str] = []
        self.take(RolloutBegan(groups))
        if online:
            for device in self.machine.devices:
                self.machine.seen(device, online=True)

    def take(self, event: JournaledEvent, now: float = 0.0) -> None:
        self.journal.append(event)
        self.machine.take(event, now)

    def poll(self, now: float = 0.0) -> list[str]:
        """The devices that are told now."""
        for event in self.machine.silent(now):
            self.take(event, now)
        told = [effect.device for effect in self.machine.poll() if isinstance(effect, OrderInstall)]
        for device in told:
            self.take(InstallOrdered(device), now)
        self.told += told
        return told

    def settle(self, device: str, outcome: str = "installed", now: float = 0.0) -> None:
        self.take(DeviceSettled(device, outcome, "broken" if outcome == "failed" else ""), now)


def test_next_group_begins_once_enough_of_the_open_one_have_installed() -> None:
    played = Played(("a",), ("b", "c"), ("d",), success_threshold=0.5)
    assert played.poll() == ["a"]
    assert played.poll() == []
    played.settle("a")
    assert played.poll() == ["b", "c"]
    played.settle("b")
    assert played.poll() == ["d"]
    played.settle("c")
    played.settle("d")
    assert played.poll() == []
    assert (played.machine.phase, played.machine.closed) == ("done", True)


def test_bad_model_is_seen_by_the_canary_alone() -> None:
    played = Played(("a",), ("b", "c", "d", "e", "f"))
    played.poll()
    played.settle("a", "failed")
    assert played.poll() == []
    assert played.machine.phase == "stopped"
    assert played.machine.reason == "1 of 1 devices that were tried have failed"
    assert played.told == ["a"]


def test_few_failures_stop_nothing_before_enough_devices_were_tried() -> None:
    played = Played(("a", "b", "c", "d"), error_threshold=0.3, min_tried=3)
    played.poll()
    played.settle("a", "failed")
    played.settle("b", "failed")
    assert played.machine.phase == "running"
    played.settle("c")
    assert played.machine.phase == "stopped"


def test_group_that_cannot_succeed_any_more_stops_the_roll_out() -> None:
    played = Played(("a", "b"), ("c",), error_threshold=1.0, success_threshold=0.9)
    played.poll()
    played.settle("a", "failed")
    assert played.machine.phase == "stopped"
    assert played.machine.reason == "1 of the 2 devices of group 1 have failed; 90% must not"
    assert not played.machine.closed, "the other one is still installing"
    played.settle("b")
    assert played.machine.closed


def test_device_that_falls_silent_has_failed() -> None:
    played = Played(("a",), ("b",), patience_seconds=60.0)
    played.poll(0.0)
    played.machine.heard("a", 50.0)
    assert played.machine.next_wakeup() == 110.0
    assert played.poll(109.0) == []
    assert played.machine.phase == "running"
    played.poll(110.0)
    assert played.machine.phase == "stopped"


def test_model_that_is_rolled_back_after_it_was_installed_counts_as_failed() -> None:
    played = Played(("a", "b"), ("c",), error_threshold=0.4)
    played.poll()
    played.settle("a")
    played.settle("a", "failed")
    assert played.machine.phase == "stopped"


def test_paused_roll_out_tells_nobody_until_it_is_resumed() -> None:
    played = Played(("a",), ("b",))
    played.poll()
    played.take(RolloutPaused())
    played.settle("a")
    assert played.poll() == []
    played.take(RolloutResumed())
    assert played.poll() == ["b"]


def test_aborted_roll_out_stays_aborted() -> None:
    played = Played(("a",), ("b",))
    played.poll()
    played.take(RolloutAborted())
    played.take(RolloutResumed())
    played.settle("a")
    assert played.poll() == []
    assert (played.machine.phase, played.machine.closed) == ("aborted", True)


def test_devices_that_are_away_are_told_when_they_come() -> None:
    played = Played(("a",), ("b", "c"), online=False)
    assert played.poll() == []
    assert played.machine.phase == "running"
    played.machine.seen("a", online=True)
    played.machine.seen("b", online=True)
    assert played.poll(1.0) == ["a"]
    played.settle("a")
    assert played.poll(2.0) == ["b"]
    played.settle("b")
    assert played.poll(3.0) == []
    assert played.machine.phase == "done"
    assert played.told == ["a", "b"]


def test_newcomer_joins_the_last_group() -> None:
    played = Played(("a",), ("b",))
    played.poll()
    played.take(DeviceAdded("z"))
    assert played.machine.groups == (("a",), ("b", "z"))


def test_device_that_comes_back_while_it_installs_is_told_again() -> None:
    played = Played(("a",))
    played.poll()
    played.machine.seen("a", online=False)
    assert played.machine.seen("a", online=True) == [OrderInstall("a")]
    assert played.machine.next_wakeup() == 600.0, "that it is there is no sign that it installs"


def test_group_opens_once() -> None:
    machine = Played(("a",), ("b",), online=False).machine
    assert machine.poll() == [GroupOpened(0)]
    assert machine.poll() == []


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["come", "leave", "install", "fail", "pause", "resume", "abort", "join", "wait", "poll"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    choices=st.fixed_dictionaries(
        {
            "success_threshold": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
            "error_threshold": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
            "min_tried": st.integers(1, 4),
            "parallel": st.integers(1, 5),
            "patience_seconds": st.sampled_from([1.0, 10.0]),
        }
    ),
    actions=ACTIONS,
)
def test_whatever_happens_the_rules_hold(sizes: list[int], choices: dict, actions: list[tuple[str, int]]) -> None:
    numbers = iter(range(100))
    groups = tuple(tuple(f"d{next(numbers)}" for _ in range(size)) for size in sizes)
    played = Played(*groups, online=False, **choices)
    machine, now = played.machine, 0.0
    for action, number in actions:
        phase = machine.phase
        if action == "wait":
            now += number
        elif action == "poll":
            poll_by_the_rules(played, now)
        else:
            act(played, action, f"d{number}", now)
        if phase in ("stopped", "aborted", "done"):
            assert machine.phase == phase, "what is over stays over"
        if machine.phase == "running" and machine.tried >= choices["min_tried"]:
            assert machine.failed <= choices["error_threshold"] * machine.tried
    again = RolloutMachine(played.settings)
    again.replay(played.journal, now)
    assert again.groups == machine.groups
    for device, entry in machine.devices.items():
        other = again.devices[device]
        assert (other.told, other.outcome, other.reason) == (entry.told, entry.outcome, entry.reason)
    if machine.phase != "done":
        assert (again.phase, again.reason) == (machine.phase, machine.reason)


def act(played: Played, action: str, device: str, now: float) -> None:
    machine = played.machine
    told = device in machine.devices and machine.devices[device].told
    match action:
        case "come" | "leave":
            machine.seen(device, online=action == "come")
        case "install" | "fail" if told:
            played.settle(device, "installed" if action == "install" else "failed", now)
        case "pause":
            played.take(RolloutPaused(), now)
        case "resume":
            played.take(RolloutResumed(), now)
        case "abort" if device == "d0":
            played.take(RolloutAborted(), now)
        case "join":
            played.take(DeviceAdded(device), now)


def poll_by_the_rules(played: Played, now: float) -> None:
    machine, before, running = played.machine, set(played.told), played.machine.phase == "running"
    told = played.poll(now)
    assert not (before & set(told)), "nobody is told twice, unless it comes back"
    assert running or not told
    assert sum(entry.installing for entry in machine.devices.values()) <= played.settings.parallel
    # One that was rolled back later had counted when the group opened.
    installed = {event.device for event in played.journal if getattr(event, "outcome", "") == "installed"}
    for one in told:
        assert machine.devices[one].online
        for earlier in machine.groups[: machine.devices[one].group]:
            assert len(installed & set(earlier)) >= played.settings.success_threshold * len(earlier) - 1e-9
