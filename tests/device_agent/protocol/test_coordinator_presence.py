"""Whether a coordinator is there, by everything that a device can know of it."""

from __future__ import annotations

from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Log, Tick
from fedlp_edge.wire.messages import Announcement, Receipt, UnitRequest
from tests.device_agent.support import BROKER_LIMITS, TOPICS, Device, announcement, assignment, published, task


def test_nobody_is_there_before_the_first_announcement() -> None:
    coordinator = CoordinatorPresence()
    assert (coordinator.online, coordinator.known, coordinator.left_at) == (False, False, None)


def test_comes_stays_restarts_and_leaves() -> None:
    coordinator = CoordinatorPresence()
    changes = [
        coordinator.announce(message, now)
        for now, message in enumerate(
            [
                announcement(session="s1"),
                announcement(session="s1"),
                announcement(session="s1", online=False),
                announcement(session="s1"),
                announcement(session="s2"),
                announcement(session="s2", online=False),
            ]
        )
    ]
    assert changes == ["came", "none", "left", "came", "restarted", "left"]
    assert (coordinator.run, coordinator.session, coordinator.left_at, coordinator.known) == (None, None, 5, True)


def test_is_there_when_a_message_comes_and_comes_again_with_its_announcement() -> None:
    coordinator = CoordinatorPresence()
    assert coordinator.coordinator_message("run")
    assert not coordinator.coordinator_message("run")
    assert (coordinator.run, coordinator.session) == ("run", None)
    assert coordinator.announce(announcement(), 1.0) == "came"


def test_a_lost_connection_says_nothing_of_the_coordinator() -> None:
    coordinator = CoordinatorPresence()
    coordinator.broker_connected(BROKER_LIMITS, 0.0)
    coordinator.announce(announcement(), 1.0)
    coordinator.broker_disconnected()
    assert (coordinator.connected, coordinator.online) == (False, True)


def test_an_assignment_shows_that_its_coordinator_is_there_though_the_announcement_got_lost() -> None:
    device = Device().join()
    device.receive(TOPICS.coordinator, announcement(online=False))
    device.down(assignment())
    device.down(task(), 10.0)
    assert all(isinstance(message, UnitRequest) for message in published(device.handle(Tick(), 10.5)))
    assert device.machine.next_wakeup() is not None


def test_a_message_of_a_run_that_the_device_has_no_place_in_shows_nothing() -> None:
    device = Device().join()
    device.receive(TOPICS.coordinator, announcement(online=False))
    device.down(Receipt(run="old", round=1, device="pi", digest="0" * 64, state="stale"))
    assert device.machine.next_wakeup() is None


def test_says_once_that_the_coordinator_is_gone() -> None:
    device = Device().join()
    notes = [
        effect
        for _ in range(2)
        for effect in device.receive(TOPICS.coordinator, announcement(online=False))
        if isinstance(effect, Log)
    ]
    assert [note.text for note in notes] == ["the coordinator went offline; waiting for it"]


def test_a_coordinator_that_ends_with_its_run_is_no_trouble() -> None:
    device = Device().join()
    goodbye = Announcement(online=False, run="run", session="s1", state="finished")
    notes = [effect for effect in device.receive(TOPICS.coordinator, goodbye) if isinstance(effect, Log)]
    assert Log("the coordinator has ended, as its run is finished; waiting for the next run") in notes
    assert not any(note.warning for note in notes)


def test_a_roll_out_is_called_a_roll_out() -> None:
    device = Device().join()
    words = []
    for online, state in ((True, "running"), (False, "finished")):
        word = Announcement(online=online, run="deploy-spring-1c9e0b7a-3f2a91", session="s9", state=state)
        words += [effect.text for effect in device.receive(TOPICS.coordinator, word) if isinstance(effect, Log)]
    assert "roll-out deploy-spring-1c9e0b7a-3f2a91 is online (running)" in words
    assert "the roll-out has ended; waiting for the next run" in words
