# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
"""Offers, credit, pacing: an update reaches its receipt, whatever is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import pairwise

import msgspec
import pytest

from device_agent.protocol.events import Effects, ForgetUpdate, Log, Publish, SendChunk
from device_agent.protocol.uploads import Uploads
from fedlp_edge.wire.messages import Grant, Receipt
from tests.device_agent.support import ME, announcement, coordinator_of, update

UPDATE = update(1, size=100)  # ten chunks of ten bytes


def online(**options: float) -> Uploads:
    uploads = Uploads(ME, coordinator_of("run"), **options)
    uploads.coordinator_online(0.0)
    uploads.add(UPDATE, 0.0)
    return uploads


def grant(missing: tuple[tuple[int, int], ...], window: int = 16) -> Grant:
    return Grant(run="run", round=1, device="pi", digest=UPDATE.digest, missing=missing, window=window)


def indices(effects: Effects) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, SendChunk)]


def offers(effects: Effects) -> int:
    return sum(isinstance(effect, Publish) for effect in effects)


def test_repeats_its_offer_ever_more_slowly_until_a_grant():
    uploads, times = online(), []
    for _ in range(6):
        due = uploads.next_wakeup()
        assert due is not None
        times.append(due)
        assert offers(uploads.poll(due - 0.01)) == 0
        assert offers(uploads.poll(due)) == 1
    pauses = [later - earlier for earlier, later in pairwise([0.0, *times])]
    assert all(plain <= pause < 1.5 * plain for plain, pause in zip([1, 2, 4, 8, 10, 10], pauses, strict=True))


def test_sends_grants_one_after_the_other():
    uploads = online()
    assert indices(uploads.grant(grant(((0, 4),), window=3), 0.0)) == [0, 1, 2]
    assert indices(uploads.grant(grant(((4, 6),), window=3), 0.0)) == []
    order = [indices(uploads.delivered(UPDATE.id, i, 0.0)) for i in range(6)]
    assert order == [[3], [4], [5], [], [], []]


def test_does_not_send_twice_what_is_under_way_when_it_is_granted_again():
    uploads = online()
    uploads.grant(grant(((0, 3),)), 0.0)
    assert indices(uploads.grant(grant(((0, 5),)), 0.1)) == [3, 4]


def test_sends_again_what_the_broker_took_and_the_coordinator_misses():
    uploads = online()
    uploads.grant(grant(((0, 10),)), 0.0)
    for i in range(10):
        uploads.delivered(UPDATE.id, i, 0.0)
    assert offers(uploads.poll(2.0)) == 1  # no receipt came
    assert indices(uploads.grant(grant(((7, 8),)), 2.1)) == [7]


def test_says_once_that_even_the_shortest_messages_are_acknowledged_and_do_not_arrive():
    uploads, warnings = online(), []
    for _ in range(12):
        effects = uploads.grant(grant(((0, 10),)), 0.0)
        warnings += [effect.text for effect in effects if isinstance(effect, Log)]
        for index in range(10):
            uploads.delivered(UPDATE.id, index, 0.0)
    (warning,) = warnings
    assert warning.startswith("not even messages of 2048 bytes on fedlp/demo/upload/pi arrive")


def test_offer_says_which_grant_was_heard_last_by_this_coordinator():
    uploads = online()
    effects = uploads.poll(2.0)
    uploads.grant(msgspec.structs.replace(grant(((0, 1),)), number=3), 2.0)
    uploads.delivered(UPDATE.id, 0, 2.0)
    effects += uploads.poll(10.0) + uploads.coordinator_online(11.0)
    assert [effect.message.heard for effect in effects if isinstance(effect, Publish)] == [0, 3, 0]


def test_never_sends_chunks_that_do_not_exist():
    assert indices(online().grant(grant(((8, 2**53),)), 0.0)) == [8, 9]


def test_keeps_to_the_rate_of_its_link():
    uploads = online(link_bytes_per_second=100.0)  # ten chunks a second
    assert indices(uploads.grant(grant(((0, 10),)), 0.0)) == [0]
    assert uploads.next_wakeup() == pytest.approx(0.1)
    assert indices(uploads.poll(0.05)) == []
    assert indices(uploads.poll(0.1)) == [1]


def test_offers_anew_to_a_coordinator_that_restarted():
    coordinator = coordinator_of("run")
    uploads = Uploads(ME, coordinator, [UPDATE])
    uploads.coordinator_online(0.0)
    uploads.grant(grant(((0, 10),), window=1), 0.0)
    coordinator.announce(announcement(online=False), 1.0)
    assert uploads.poll(100.0) == []
    coordinator.announce(announcement(), 100.0)
    effects = uploads.coordinator_online(100.0)
    assert (offers(effects), indices(effects)) == (1, [])


def test_says_why_an_update_was_refused_and_forgets_it():
    receipt = Receipt(run="run", round=1, device="pi", digest=UPDATE.digest, state="rejected", reason="not finite")
    note, forget = online().receipt(receipt, 0.0)
    assert note == Log("round 1: update rejected: not finite", warning=True)
    assert forget == ForgetUpdate(UPDATE.id)


def test_ignores_receipts_and_grants_of_other_updates():
    uploads = online()
    other = Receipt(run="run", round=2, device="pi", digest=UPDATE.digest, state="stale")
    assert uploads.receipt(other, 0.0) == []
    assert uploads.grant(Grant(run="x", round=1, device="pi", digest=UPDATE.digest, missing=(), window=1), 0.0) == []


def test_replaces_an_update_of_the_same_round():
    effects = online().add(update(1, size=50), 1.0)
    assert [e.update for e in effects if isinstance(e, ForgetUpdate)] == [UPDATE.id]


def test_a_thousand_offers_at_once_get_through_a_queue_of_a_hundred():
    """The broker drops what its queue cannot hold; the coordinator reads 500 offers a second."""
    queue, seconds_each = 100, 1 / 500
    fleet = [Uploads(replace(ME, device=f"d{number}"), coordinator_of("run")) for number in range(1000)]
    for uploads in fleet:
        uploads.coordinator_online(0.0)
    waiting: list[int] = []
    heard: set[int] = set()
    sent, read_at = 0, 0.0

    def publish(number: int, effects: Effects) -> None:
        nonlocal sent
        sent += offers(effects)
        if len(waiting) < queue:
            waiting.append(number)

    for number, uploads in enumerate(fleet):
        publish(number, uploads.add(UPDATE, 0.0))
    due = [(uploads.next_wakeup() or 0.0, number) for number, uploads in enumerate(fleet)]
    heapify(due)
    now = 0.0
    while due:
        now, number = heappop(due)
        while waiting and read_at + seconds_each <= now:
            heard.add(waiting.pop(0))
            read_at += seconds_each
        read_at = read_at if waiting else now
        if number not in heard:
            publish(number, fleet[number].poll(now))
            heappush(due, (fleet[number].next_wakeup() or 0.0, number))

    assert len(heard) == len(fleet)
    assert now < 15.0
    assert sent < 5 * len(fleet)


@pytest.mark.parametrize(("state", "uncounted"), [("stale", 10), ("accepted", 0), ("rejected", 0)])
def test_what_was_received_for_an_update_that_came_too_late_is_told_later(state, uncounted):
    uploads = online()
    uploads.receipt(Receipt(run="run", round=1, device="pi", digest=UPDATE.digest, state=state), 1.0)
    assert [uploads.take_uncounted_bytes_down() for _ in range(2)] == [uncounted, 0]
