"""Encoded updates: what is asked for gets in, and nothing else, whatever happened to the bytes."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fedlp_edge.core.settings import UPDATE_ENCODINGS, Encoding
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.wire.admission import Admission, AdmittedUpdate, RejectionReason
from fedlp_edge.wire.compression import encode_unit
from fedlp_edge.wire.tensors import Array, pack
from tests.wire.fleet import BLUEPRINT, DEVICE, RUN, delta, expectation, update

ADMISSION = Admission(RUN, BLUEPRINT)
ENCODINGS: tuple[Encoding, ...] = (*UPDATE_ENCODINGS, "levels:5+zstd")
STEPS = {"int8": 1.0, "int4": 19.0, "int2": 127.0, "leve": 64.0}
L2 = BLUEPRINT.by_id["L2"].tensors  # a weight of 3x2, and a buffer
DELTAS: dict[str, Array] = {
    "b.weight": np.array([[1.0, -0.5], [0.25, 0.0], [-127.0, 3.0]], np.float32),
    "b.var": np.array(0.1, np.float32),
}


def admit(part: bytes, encoding: Encoding, names: tuple[str, ...] = ("b.weight", "b.var")) -> AdmittedUpdate:
    expected = expectation(L2=names)
    owed = type(expected)(DEVICE, expected.round, expected.depth, expected.samples, expected.sent, encoding)
    offer, blob = update({"L2": part})
    ADMISSION.check_offer(offer, DEVICE, owed)
    return ADMISSION.admit(offer, blob, owed)


def refusal(part: bytes, encoding: Encoding) -> str:
    with pytest.raises(RejectedUpdateError) as refused:
        admit(part, encoding)
    return refused.value.reason


def frame(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(content)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_admits_what_was_asked_for_as_float32(encoding: Encoding) -> None:
    deltas = admit(encode_unit(L2, DELTAS, encoding, seed=5), encoding).deltas

    assert {name: (array.dtype.name, array.shape) for name, array in deltas.items()} == {
        "b.weight": ("float32", (3, 2)),
        "b.var": ("float32", ()),
    }
    assert np.abs(deltas["b.weight"] - DELTAS["b.weight"]).max() <= STEPS.get(encoding[:4], 0.0)
    assert deltas["b.var"] == DELTAS["b.var"]
    assert not any(array.flags.writeable for array in deltas.values())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_admits_single_tensors_of_a_unit(encoding: Encoding) -> None:
    part = encode_unit(L2[1:], DELTAS, encoding)

    assert list(admit(part, encoding, ("b.var",)).deltas) == ["b.var"]


@pytest.mark.parametrize("encoding", ["fp16", "int8", "fp16+zstd", "int8+zstd"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, RejectionReason.NOT_FINITE), (-np.inf, RejectionReason.NOT_FINITE), (2.0**21, RejectionReason.VALUE)],
)
def test_refuses_values_that_no_delta_has(encoding: Encoding, value: float, reason: RejectionReason) -> None:
    poisoned = {**DELTAS, "b.weight": np.full((3, 2), value, np.float32)}

    assert refusal(encode_unit(L2, poisoned, encoding), encoding) == reason


F16 = np.float16(1.5)
BODY = {"b.weight": np.ones((3, 2), np.int8), "b.var": np.float32(0.5)}
SCALE = np.array([0.5], np.float32)


def packed(**tensors: object) -> bytes:
    whole = BODY | {"scales": SCALE} | {name.replace("_", "."): value for name, value in tensors.items()}
    return bytes(save({name: np.asarray(value) for name, value in whole.items() if value is not None}))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (packed(scales=None), RejectionReason.NAMES),
        (packed(scales=np.array([0.5, 0.5], np.float32)), RejectionReason.SHAPE),
        (packed(scales=np.array(0.5, np.float32)), RejectionReason.SHAPE),
        (packed(scales=np.array([0.5], np.float64)), RejectionReason.DTYPE),
        (packed(scales=np.array([1], np.int8)), RejectionReason.DTYPE),
        (packed(scales=np.array([np.nan], np.float32)), RejectionReason.NOT_FINITE),
        (packed(scales=np.array([np.inf], np.float32)), RejectionReason.NOT_FINITE),
        (
            packed(scales=np.array([3e38], np.float32), b_weight=np.full((3, 2), 127, np.int8)),
            RejectionReason.NOT_FINITE,
        ),
        (packed(scales=np.array([2.0**21], np.float32)), RejectionReason.VALUE),
        (packed(b_weight=np.ones((2, 3), np.int8)), RejectionReason.SHAPE),
        (packed(b_weight=np.ones((3, 2), np.uint8)), RejectionReason.NAMES),  # nothing to scale
        (packed(b_weight=np.ones((3, 2), np.float16), scales=None), RejectionReason.DTYPE),  # not what was asked for
        (packed(b_weight=np.ones((3, 2), np.float32)), RejectionReason.NAMES),
        (
            packed(b_var=np.int8(1), scales=np.array([1, 1], np.float32)),
            RejectionReason.DTYPE,
        ),  # statistics stay float32
        (packed(b_var=F16), RejectionReason.DTYPE),
        (packed(b_more=np.int8(1)), RejectionReason.NAMES),
    ],
)
def test_refuses_integers_that_do_not_fit(part: bytes, reason: RejectionReason) -> None:
    assert refusal(part, "int8") == reason


@pytest.mark.parametrize(
    ("encoding", "sent"), [("none", "fp16"), ("none", "int8"), ("fp16", "int8"), ("none", "none+zstd")]
)
def test_refuses_another_encoding_than_the_one_asked_for(encoding: Encoding, sent: Encoding) -> None:
    assert refusal(encode_unit(L2, DELTAS, sent), encoding) in {
        RejectionReason.DTYPE, RejectionReason.SIZE, RejectionReason.NAMES, RejectionReason.MALFORMED
    }  # fmt: skip


def test_admits_float32_where_narrower_numbers_were_asked_for() -> None:
    """What an encoding cannot hold comes so, and so does what an agent sends that knows of no encodings."""
    for encoding in ("fp16", "int8"):
        deltas = admit(pack(DELTAS), encoding).deltas
        np.testing.assert_array_equal(deltas["b.weight"], DELTAS["b.weight"])


@pytest.mark.parametrize(
    "part",
    [
        frame(bytes(100_000)),
        frame(bytes(100_000), write_content_size=False),
        frame(pack(DELTAS)) * 2,
        frame(pack(DELTAS)) + bytes(1),
        frame(frame(pack(DELTAS))),
        b"\x50\x2a\x4d\x18" + bytes(8),  # a frame to be skipped
        bytes(40),
        pack(DELTAS),
    ],
)
def test_refuses_what_is_not_one_frame_of_the_expected_size(part: bytes) -> None:
    assert refusal(part, "int8+zstd") in {RejectionReason.MALFORMED, RejectionReason.SIZE}


def bomb(declared: int, window_log: int | None = None) -> bytes:
    """A frame that promises ``declared`` bytes and can deliver them from a few: one repeated byte, block by block."""
    if window_log is None:
        head = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + declared.to_bytes(8, "little")
    else:
        head = b"\x28\xb5\x2f\xfd" + bytes([0b11000000, (window_log - 10) << 3]) + declared.to_bytes(8, "little")
    block, blocks = 128 * 1024, []
    for start in range(0, min(declared, 20 * block), block):
        size = min(block, declared - start)
        last = start + size >= declared or start + block >= 20 * block
        blocks.append(((size << 3) | (1 << 1) | last).to_bytes(3, "little") + b"\x00")
    return head + b"".join(blocks)


@pytest.mark.parametrize(
    "part", [bomb(2**40), bomb(2**31), bomb(10_000_000), bomb(600, 31), bomb(600, 27), bomb(500)], ids=repr
)
def test_bombs_allocate_nothing(part: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal(part, "int8+zstd") == RejectionReason.MALFORMED
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_refuses_an_update_cut_at_any_byte(encoding: Encoding) -> None:
    part = encode_unit(L2, DELTAS, encoding, seed=5)
    for length in range(len(part)):
        refusal(part[:length], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_flipped_bits_give_a_refusal_or_other_numbers_and_nothing_else(encoding: Encoding) -> None:
    part = encode_unit(L2, DELTAS, encoding, seed=5)
    for index in range(8 * len(part)):
        damaged = bytearray(part)
        damaged[index // 8] ^= 1 << index % 8
        try:
            deltas = admit(bytes(damaged), encoding).deltas
        except RejectedUpdateError:
            continue
        assert {name: array.shape for name, array in deltas.items()} == {"b.weight": (3, 2), "b.var": ()}
        assert all(np.isfinite(array).all() for array in deltas.values())


@given(content=st.binary(max_size=700), encoding=st.sampled_from(ENCODINGS), wrapped=st.booleans())
def test_any_bytes_give_a_refusal(content: bytes, encoding: Encoding, wrapped: bool) -> None:
    refusal(frame(content) if wrapped else content, encoding)


@given(header=st.dictionaries(
    st.sampled_from(["b.weight", "b.var", "scales", "x"]),
    st.fixed_dictionaries({
        "dtype": st.sampled_from(["F32", "F16", "I8", "BF16", "U8"]),
        "shape": st.lists(st.integers(0, 6), max_size=3),
        "data_offsets": st.tuples(st.integers(0, 40), st.integers(0, 40)),
    }),
), encoding=st.sampled_from(ENCODINGS), size=st.integers(0, 40))  # fmt: skip
def test_any_header_gives_a_refusal_or_the_tensors_owed(header: dict, encoding: Encoding, size: int) -> None:
    text = json.dumps(header).encode()
    part = len(text).to_bytes(8, "little") + text + bytes(size)
    try:
        deltas = admit(frame(part) if encoding.endswith("zstd") else part, encoding).deltas
    except RejectedUpdateError:
        return
    assert {name: array.shape for name, array in deltas.items()} == {"b.weight": (3, 2), "b.var": ()}


def test_offer_of_an_encoded_update_is_bounded_by_what_was_asked_for() -> None:
    expected = expectation(H2=("h2.weight",))
    plain = pack({"h2.weight": delta("h2.weight")})
    for encoding in ENCODINGS:
        owed = type(expected)(DEVICE, 3, 2, 100, expected.sent, encoding)
        offer, _ = update({"H2": plain + bytes(100_000)})
        with pytest.raises(RejectedUpdateError) as refused:
            ADMISSION.check_offer(offer, DEVICE, owed)
        assert refused.value.reason == RejectionReason.SIZE
