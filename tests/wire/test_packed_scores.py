"""What a device has measured, on its way to the coordinator."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.packed_scores import (
    LARGEST,
    MAX_BYTES,
    PackedArray,
    PackedScores,
    ScoresByDepth,
    packed_scores,
    unpacked_scores,
)

numbers = st.floats(-LARGEST, LARGEST)


def arrived(packed: dict[int, PackedScores]) -> dict[int, PackedScores]:
    """As it comes out of a message."""
    return msgspec.json.decode(msgspec.json.encode(packed), type=ScoresByDepth)


@given(st.dictionaries(st.sampled_from(["samples", "loss", "correct"]), st.lists(numbers, max_size=8).map(tuple)))
def test_arrives_as_it_was_sent(sums: dict[str, tuple[float, ...]]) -> None:
    scores = {2: HeldOutScores(sums, {"score": 0.5})}
    assert unpacked_scores(arrived(packed_scores(scores))) == scores


def test_zeros_do_not_travel() -> None:
    packed = packed_scores({1: HeldOutScores({"confusion": (0.0, 3.0, 0.0, 0.0)})})
    assert msgspec.json.encode(packed) == b'{"1":{"sums":{"confusion":[4,[1],[3.0]]}}}'


def test_what_is_no_number_is_as_large_as_can_be() -> None:
    packed = packed_scores({1: HeldOutScores({"loss": (math.nan, math.inf, -math.inf)})})
    assert unpacked_scores(arrived(packed))[1].sums == {"loss": (LARGEST, LARGEST, -LARGEST)}


def test_large_arrays_that_no_main_metric_needs_are_left_out_by_their_length_alone() -> None:
    few = packed_scores({1: HeldOutScores({"correct": (1.0,), "confusion": (0.0,) * 4095})})
    many = packed_scores({1: HeldOutScores({"correct": (1.0,), "confusion": (0.0,) * 4096})})
    assert set(few[1].sums) == {"correct", "confusion"}
    assert set(many[1].sums) == {"correct"}


def test_what_would_make_a_message_too_long_is_not_sent() -> None:
    scores = {depth: HeldOutScores({"correct": (1.0,) * 4000}) for depth in range(1, 13)}
    assert len(msgspec.json.encode(scores)) > MAX_BYTES
    assert packed_scores(scores) == {}


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (PackedArray(2, (2,), (1.0,)), "at place 2 of 2"),
        (PackedArray(4, (1, 1), (1.0, 1.0)), "not ascending"),
        (PackedArray(4, (2, 1), (1.0, 1.0)), "not ascending"),
        (PackedArray(4, (1, 2), (1.0,)), "not as many as its values"),
    ],
)
def test_arrays_that_contradict_themselves_are_refused(array: PackedArray, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        unpacked_scores({1: PackedScores({"correct": array})})


def test_more_numbers_than_any_task_has_are_refused_before_room_is_made() -> None:
    scores = {depth: PackedScores({"correct": PackedArray(1 << 16)}) for depth in range(1, 65)}
    with pytest.raises(PeerError, match="more than any task has"):
        unpacked_scores(scores)


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"1":{"sums":{"correct":[1e9,[],[]]}}}',
        b'{"1":{"sums":{"correct":[4,[-1],[1.0]]}}}',
        b'{"1":{"sums":{"correct":[4,[1],[1e301]]}}}',
        b'{"1":{"sums":{"correct":[4,[1],[null]]}}}',
        b'{"1":{"sums":{"../x":[1,[],[]]}}}',
        b'{"0":{"sums":{}}}',
        b'{"1":{"sums":{},"metrics":{"x":1e999}}}',
    ],
)
def test_hostile_scores_do_not_decode(hostile: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(hostile, type=ScoresByDepth)
