from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.protocol.prefetch import PrefetchedBlob
from fedlp_edge.wire.chunks import Chunk
from tests.device_agent.support import MemoryStore, chunks, version

BLOB = bytes(range(25))  # in chunks of 10, 10 and 5 bytes
FIRST, SECOND, LAST = (Chunk.parse(chunk) for chunk in chunks(BLOB, 10))


def prefetched(store: MemoryStore, *added: Chunk, most: int = 25) -> PrefetchedBlob:
    blob = PrefetchedBlob("L1", FIRST, most, store)
    for chunk in added:
        blob.add(chunk)
    return blob


@settings(max_examples=20)
@given(st.permutations([FIRST, SECOND, LAST, FIRST]))
def test_hands_over_what_came_before_the_task_in_any_order(order: list[Chunk]) -> None:
    store = MemoryStore()
    assembly, last = prefetched(store, *order).take_over(version("L1", BLOB, 10))
    assert assembly is not None
    assert last is not None
    assert assembly.missing == ((2, 3),)
    assert assembly.add(last)
    assert assembly.finish()
    assert store.written(version("L1", BLOB, 10)) == BLOB


def test_holds_the_last_chunk_in_memory_alone() -> None:
    store = MemoryStore()
    blob = prefetched(store, LAST)
    assert store.begun == {}
    assert blob.take_over(version("L1", BLOB, 10)) == (None, LAST)


def test_throws_away_what_is_not_the_version_that_a_task_names() -> None:
    for other in (version("L1", bytes(25), 10), version("L1", BLOB, 9)):
        store = MemoryStore()
        assert prefetched(store, FIRST, SECOND, LAST).take_over(other) == (None, None)
        assert store.begun == {}


def test_holds_nothing_of_a_version_that_is_larger_than_the_unit() -> None:
    store = MemoryStore()
    blob = prefetched(store, FIRST, SECOND, LAST, most=20)
    assert store.begun == {}
    assert blob.take_over(version("L1", BLOB, 10)) == (None, LAST)


def test_drops_a_chunk_that_counts_other_chunks() -> None:
    store = MemoryStore()
    others = [Chunk(FIRST.prefix, index, 4, chunk.payload) for index, chunk in ((1, SECOND), (2, LAST))]
    assembly, last = prefetched(store, FIRST, *others).take_over(version("L1", BLOB, 10))
    assert assembly is not None
    assert (assembly.missing, last) == (((1, 3),), None)


def test_writes_two_units_of_the_same_bytes_to_two_places() -> None:
    store = MemoryStore()
    for unit in ("L1", "L2"):
        PrefetchedBlob(unit, FIRST, 25, store).add(FIRST)
    assert len(store.begun) == 2
