"""Blobs from chunks in any order, with losses, early arrivals and strangers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.protocol.downloads import Downloads
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.chunks import Chunk, split
from fedlp_edge.wire.messages import UnitVersion
from tests.device_agent.support import MemoryStore, chunks, version

OLD, NEW = bytes(range(100)), bytes(range(100, 200))


def accept(version: UnitVersion, blob: memoryview) -> None:
    del version, blob


def receive(downloads: Downloads, payload: bytes, unit: str | None = "L1", now: float = 0.0) -> None:
    downloads.receive(unit, Chunk.parse(payload), len(payload), now)


@given(data=st.data())
def test_completes_from_any_order_with_losses_and_repeats(data: st.DataObject):
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 100, "L2": 100})
    sent = [("L1", c) for c in chunks(OLD, 9)] + [("L2", c) for c in chunks(NEW, 13)]
    arriving = data.draw(st.lists(st.sampled_from(sent), max_size=60))
    early = data.draw(st.integers(0, len(arriving)))
    for unit, chunk in arriving[:early]:
        receive(downloads, chunk, unit)
    downloads.start([version("L1", OLD, 9), version("L2", NEW, 13)], 0.0)
    for unit, chunk in arriving[early:]:
        receive(downloads, chunk, unit)
    for wanted, missing in downloads.overdue(1.0):
        content, size = (OLD, 9) if wanted.unit == "L1" else (NEW, 13)
        for start, stop in missing:
            for chunk in chunks(content, size)[start:stop]:
                receive(downloads, chunk, None)
    assert downloads.complete
    assert sorted(store.blobs.values()) == [OLD, NEW]


def test_holds_nothing_early_of_a_version_larger_than_its_unit_can_be():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 40})
    for chunk in chunks(OLD, 10):
        receive(downloads, chunk)
    assert store.begun == {}
    downloads.start([version("L1", OLD, 10)], 0.0)
    ((_, missing),) = downloads.overdue(1.0)
    assert missing == ((0, 9),)  # the last one is small enough to be held


@given(order=st.permutations(range(10)))
def test_writes_what_comes_early_to_its_place_in_any_order(order: list[int]):
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 110})
    content = OLD[:95]
    for number in order:
        receive(downloads, chunks(content, 10)[number])
    ((_, sink),) = store.begun.items()
    assert sink.buffer[:90] == content[:90]
    downloads.start([version("L1", content, 10)], 0.0)
    assert downloads.complete
    assert store.blobs == {version("L1", content).digest: content}


def test_goes_on_with_what_came_early_and_asks_for_the_rest():
    downloads = Downloads(MemoryStore(), accept)
    downloads.limit_prefetch({"L1": 100})
    for number in (0, 1, 4):
        receive(downloads, chunks(OLD, 10)[number])
    assert downloads.next_wakeup() is None
    downloads.start([version("L1", OLD, 10)], 0.0)
    assert downloads.overdue(1.0)[0][1] == ((2, 4), (5, 10))


def test_begins_anew_when_the_task_names_another_version_than_came_early():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 100})
    for chunk in chunks(OLD, 10):
        receive(downloads, chunk)
    downloads.start([version("L1", NEW, 10)], 0.0)
    assert downloads.overdue(1.0)[0][1] == ((0, 10),)
    assert list(store.begun) == [version("L1", NEW).digest]


def test_lets_go_of_early_chunks_of_a_unit_that_is_no_longer_its_own():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 100})
    receive(downloads, chunks(OLD, 10)[0])
    downloads.limit_prefetch({})
    assert store.begun == {}


def test_holds_the_latest_version_of_a_unit_alone():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L1": 100})
    for chunk in [*chunks(OLD), *chunks(NEW)]:
        receive(downloads, chunk)
    downloads.start([version("L1", NEW)], 0.0)
    assert downloads.complete
    assert list(store.blobs.values()) == [NEW]


def test_holds_nothing_of_units_that_are_not_its_own():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.limit_prefetch({"L2": 1000})
    for chunk in chunks(OLD):
        receive(downloads, chunk, "L1")
        receive(downloads, chunk, None)
    assert store.begun == {}
    # The link has carried them all the same.
    assert downloads.take_received_bytes() == 2 * sum(len(chunk) for chunk in chunks(OLD))


def test_goes_on_with_a_half_download_that_the_next_task_wants_too():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD)], 0.0)
    receive(downloads, chunks(OLD)[0])
    downloads.start([version("L1", OLD), version("L2", NEW)], 1.0)
    missing = {v.unit: ranges for v, ranges in downloads.overdue(2.0)}
    assert missing == {"L1": ((1, 3),), "L2": ((0, 3),)}


def test_throws_away_a_half_download_that_nobody_wants():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.start([version("L1", OLD)], 0.0)
    downloads.start([version("L1", NEW)], 1.0)
    assert list(store.begun) == [version("L1", NEW).digest]


def test_waits_longer_each_time_nothing_comes():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD)], 0.0)
    times = []
    for _ in range(6):
        due = downloads.next_wakeup()
        assert due is not None
        times.append(due)
        assert downloads.overdue(due - 0.01) == []
        assert downloads.overdue(due)
    assert times == [0.5, 1.5, 3.5, 7.5, 12.5, 17.5]


def test_asks_at_once_for_what_nobody_broadcasts():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("onnx-1", OLD)], 3.0, patience=0.0)
    assert downloads.overdue(3.0)
    assert downloads.next_wakeup() == 3.5


def test_wants_everything_again_when_the_bytes_have_another_digest():
    downloads = Downloads(MemoryStore(), accept)
    right = version("L1", OLD)
    liar = version("L1", NEW)
    # Chunks that carry the right prefix but other bytes: a sender whose digest is wrong.
    forged = [c[:8] + bytes.fromhex(right.digest)[:16] + c[24:] for c in chunks(NEW)]
    assert liar.size == right.size
    downloads.start([right], 0.0)
    for chunk in forged:
        receive(downloads, chunk)
    assert not downloads.complete
    assert downloads.overdue(1.0)[0][1] == ((0, 3),)


def test_raises_and_keeps_nothing_when_a_blob_is_not_acceptable():
    def refuse(version: UnitVersion, blob: memoryview) -> None:
        raise PeerError("not finite")

    store = MemoryStore()
    downloads = Downloads(store, refuse)
    downloads.start([version("L1", b"tiny", 10)], 0.0)
    with pytest.raises(PeerError, match="not finite"):
        receive(downloads, chunks(b"tiny", 10)[0])
    assert (store.blobs, store.begun) == ({}, {})


def test_asks_for_nothing_while_the_broadcast_may_be_on_its_way():
    downloads = Downloads(MemoryStore(), accept)
    wanted = version("L1", OLD, 50)
    downloads.start([wanted], 10.0, patience=8.0)
    receive(downloads, chunks(OLD, 50)[0], now=17.0)
    assert downloads.overdue(24.9) == []
    assert downloads.overdue(25.0) == [(wanted, ((1, 2),))]


def test_stays_patient_while_the_broadcast_goes_on_after_it_has_asked():
    downloads = Downloads(MemoryStore(), accept)
    wanted = version("L1", OLD, 50)
    downloads.start([wanted], 0.0, patience=8.0)
    assert downloads.overdue(8.0) == [(wanted, ((0, 2),))]
    receive(downloads, chunks(OLD, 50)[0], now=9.0)
    assert downloads.overdue(16.9) == []
    assert downloads.overdue(17.0) == [(wanted, ((1, 2),))]


def test_asks_for_the_next_slice_as_soon_as_one_is_through():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD, 4)], 0.0, patience=0.0)
    ((wanted, missing),) = downloads.overdue(0.0)
    assert missing == ((0, 25),)
    slice_ = list(split(OLD, wanted.digest, 4, [(0, 10)], report=True))
    for chunk in slice_[:-1]:
        receive(downloads, chunk, None, now=0.1)
    assert downloads.overdue(0.1) == []
    receive(downloads, slice_[-1], None, now=0.1)
    assert downloads.next_wakeup() == 0.1
    ((_, missing),) = downloads.overdue(0.1)
    assert missing == ((10, 25),)
    assert downloads.next_wakeup() == 0.6


def test_asks_for_small_units_together_and_for_large_ones_one_by_one():
    downloads = Downloads(MemoryStore(), accept)
    units = [version(f"L{n}", bytes([n]) * 10, 2) for n in range(1, 6)] + [version("L6", OLD, 2), version("L7", NEW, 2)]
    downloads.start(units, 0.0, patience=0.0)
    assert [v.unit for v, _ in downloads.overdue(0.0)] == ["L1", "L2", "L3", "L4"]
    for unit in units[:5]:
        for chunk in split(bytes([int(unit.unit[1:])]) * 10, unit.digest, 2, report=True):
            receive(downloads, chunk, None)
    assert [v.unit for v, _ in downloads.overdue(1.0)] == ["L6"]


def test_a_slice_of_the_broadcast_is_no_reason_to_ask():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD, 10)], 0.0)
    for chunk in split(OLD, version("L1", OLD).digest, 10, [(0, 5)], report=True):
        receive(downloads, chunk, "L1")
    assert downloads.overdue(0.1) == []


def test_on_a_slow_link_waits_for_three_chunks_of_time_before_it_takes_silence_for_a_loss():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD, 10)], 0.0)
    for number, now in enumerate([0.4, 1.4, 2.4]):
        receive(downloads, chunks(OLD, 10)[number], now=now)
    assert downloads.next_wakeup() == pytest.approx(2.4 + 3 * 1.0)
    for number, now in enumerate([2.5, 2.6, 2.7, 2.8], start=3):
        receive(downloads, chunks(OLD, 10)[number], now=now)
    assert downloads.next_wakeup() == pytest.approx(2.8 + 0.5)  # the link has become fast


def test_time_between_two_models_says_nothing_about_the_link():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD)], 0.0)
    for chunk in chunks(OLD):
        receive(downloads, chunk)
    downloads.start([version("L1", NEW, 10)], 100.0)
    receive(downloads, chunks(NEW, 10)[0], now=100.1)
    assert downloads.next_wakeup() == pytest.approx(100.1 + 0.5)


def test_asks_for_nothing_while_bytes_of_a_long_message_come():
    downloads = Downloads(MemoryStore(), accept)
    downloads.start([version("L1", OLD)], 0.0)
    for tenth in range(1, 1000, 4):
        downloads.bytes_arriving(tenth / 10)
        assert downloads.overdue(tenth / 10 + 0.3) == []
    assert downloads.overdue(100.5) != []


def test_bytes_of_other_packets_do_not_make_the_echo_that_is_under_way_useless():
    """A restarted coordinator broadcasts nothing again; where an acknowledgement came just ahead of each echo, a device
    never asked, and the round lost it."""
    echo_sent = -math.inf
    asked_since: list[float] = []

    def nothing_in_transit(since: float, now: float) -> bool:
        nonlocal echo_sent
        asked_since.append(since)
        if echo_sent >= since:
            return True
        echo_sent = now
        return False

    downloads = Downloads(MemoryStore(), accept, nothing_in_transit)
    downloads.start([version("L1", OLD)], 10.0)
    assert downloads.overdue(10.5) == []
    downloads.bytes_arriving(10.6)
    assert downloads.overdue(10.7) == []
    assert downloads.overdue(11.1) != []
    assert asked_since == [10.0, 10.0]


def test_wants_chunks_of_a_complete_blob_and_awaits_those_of_others():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.start([version("L1", OLD, 50), version("L2", NEW, 50)], 0.0)
    first, second = chunks(OLD, 50)
    receive(downloads, first)
    assert downloads.awaits(Chunk.parse(second))
    receive(downloads, second)
    assert downloads.wants(Chunk.parse(second))
    assert not downloads.awaits(Chunk.parse(second))
    assert downloads.awaits(Chunk.parse(chunks(NEW, 50)[0]))


def test_wants_nothing_any_more_once_it_is_abandoned():
    store = MemoryStore()
    downloads = Downloads(store, accept)
    downloads.start([version("L1", OLD, 50), version("L2", NEW, 50)], 0.0)
    first, second = chunks(OLD, 50)
    receive(downloads, first)
    downloads.abandon()
    assert store.begun == {}
    assert downloads.complete
    assert not downloads.wants(Chunk.parse(second))
    downloads.start([version("L1", OLD, 50)], 1.0)
    receive(downloads, second)
    assert not downloads.complete, "nothing of the first download counts"
