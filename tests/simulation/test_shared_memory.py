from __future__ import annotations

import errno
import itertools
import os
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.simulation.shared_memory import ArraySlot, SharedArrays, layout_of


def test_places_arrays_at_the_bounds_of_cache_lines() -> None:
    assert layout_of({"a": ("<f4", (2, 9)), "b": ("|u1", (3,)), "c": ("<i8", ())}) == (
        ArraySlot("a", "<f4", (2, 9), 0),
        ArraySlot("b", "|u1", (3,), 128),
        ArraySlot("c", "<i8", (), 192),
    )
    assert layout_of({}) == ()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["<f4", "<i8", "|u1"]), st.lists(st.integers(0, 5), max_size=3))))
def test_lays_arrays_out_without_overlap(kinds: list[tuple[str, list[int]]]) -> None:
    layout = layout_of({str(number): (dtype, tuple(shape)) for number, (dtype, shape) in enumerate(kinds)})
    for one, following in itertools.pairwise(layout):
        assert one.offset + one.nbytes <= following.offset
        assert following.offset % 64 == 0


def test_begins_with_zeros_and_takes_values() -> None:
    memory = SharedArrays.create(layout_of({"a": ("<f4", (3,)), "none": ("<f4", (0,))})).close_descriptor()
    assert {name: array.tolist() for name, array in memory.arrays.items()} == {"a": [0, 0, 0], "none": []}
    memory.write({"a": np.array([1, 2, 3], np.float32)})
    assert memory.arrays["a"].tolist() == [1, 2, 3]


def test_shares_one_memory_between_all_who_have_the_descriptor() -> None:
    one = SharedArrays.copy_of({"a": np.arange(3, dtype=np.int64)})
    other = SharedArrays(os.dup(one.descriptor), one.layout)
    other.arrays["a"][1] = 50
    assert one.arrays["a"].tolist() == [0, 50, 2]
    one.close()
    assert other.arrays["a"].tolist() == [0, 50, 2]
    other.close()


def test_gives_the_descriptor_back_once() -> None:
    memory = SharedArrays.copy_of({"a": np.ones(1)})
    descriptor = memory.descriptor
    memory.close()
    memory.close()
    assert (memory.descriptor, memory.arrays) == (-1, {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_refuses_values_of_another_shape() -> None:
    memory = SharedArrays.create(layout_of({"a": ("<f4", (3,))})).close_descriptor()
    with pytest.raises(ValueError, match=r"could not broadcast input array from shape \(2,\) into shape \(3,\)"):
        memory.write({"a": np.ones(2, np.float32)})


def test_takes_room_of_temporary_files_where_memory_for_sharing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container of Docker, whose /dev/shm has 64 MB: a file there would end the process by SIGBUS.
    asked: list[int] = []
    reserve = os.posix_fallocate

    def reserve_little(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        if len(asked) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", reserve_little)
    shared = SharedArrays.create(layout_of({"a": ("<f4", (3,))}))
    shared.write({"a": np.float32([1, 2, 3])})
    assert shared.arrays["a"].tolist() == [1, 2, 3]
    assert len(asked) == 2
    assert os.fstat(shared.descriptor).st_blocks > 0
    shared.close()


def test_takes_room_where_the_system_cannot_reserve_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    shared = SharedArrays.create(layout_of({"a": ("<f4", (3,))}))
    assert shared.arrays["a"].tolist() == [0, 0, 0]
    shared.close()


def test_says_which_place_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        SharedArrays.create(layout_of({"a": ("<f4", (3,))}))
    assert caught.value.filename == tempfile.gettempdir()
