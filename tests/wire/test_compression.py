"""Encodings: how far off, how often, how long, and the same again."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load

from fedlp_edge.core.blueprint import TensorSpec, Unit
from fedlp_edge.core.settings import UPDATE_ENCODINGS, Encoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.admission import admit_part
from fedlp_edge.wire.compression import (
    SCALES,
    compress,
    decompress,
    encode_unit,
    frame_bounds,
    is_compressed,
    packed_levels,
    rounding_seed,
    unpacked_levels,
)
from fedlp_edge.wire.tensors import Array

ENCODINGS: tuple[Encoding, ...] = (*UPDATE_ENCODINGS, "levels:5+zstd", "levels:33+zstd")
WEIGHT = TensorSpec("a.weight", (2, 3), "trained")
BIAS = TensorSpec("a.bias", (2,), "trained")
MEAN = TensorSpec("a.mean", (), "statistic")
DELTAS: dict[str, Array] = {
    "a.weight": np.array([[1.0, -0.5, 0.25], [127.0, 0.0, -3.0]], np.float32),
    "a.bias": np.array([127 / 1024, -1 / 1024], np.float32),
    "a.mean": np.array(0.1, np.float32),
}


def packing(encoding: Encoding) -> tuple[int, int, int]:
    """How many levels are in a byte, the base of the number that they form, and the largest level."""
    if encoding.startswith("levels:"):
        levels = int(encoding.removeprefix("levels:").removesuffix("+zstd"))
        return next(count for count in range(8, 0, -1) if levels**count <= 256), levels, levels // 2
    return {"int4": (2, 16, 7), "int2": (4, 4, 1)}.get(encoding[:4], (1, 256, 127))


def decoded(tensors: tuple[TensorSpec, ...], deltas: dict[str, Array], encoding: Encoding, seed: int = 0) -> dict:
    """By an independent reader: the library's, and the formula of the documentation."""
    blob = encode_unit(tensors, deltas, encoding, seed=seed)
    held = load(decompress(blob, 1 << 20) if is_compressed(encoding) else blob)
    scales = list(held.pop(SCALES, ()))
    count, base, largest = packing(encoding)
    back = {}
    for spec in tensors:
        array = held[spec.name]
        if array.dtype == np.uint8:
            codes = [byte // base**place % base for byte in array.tolist() for place in range(count)]
            levels = np.array(codes[: spec.numel], np.float64) - largest
            array = levels.reshape(spec.shape).astype(np.int8)
        back[spec.name] = array * scales.pop(0) if array.dtype == np.int8 else array
    return back


def one(values: list[float] | Array, encoding: Encoding, seed: int = 0) -> Array:
    array = np.asarray(values, np.float32)
    spec = TensorSpec("a.w", array.shape, "trained")
    return decoded((spec,), {"a.w": array}, encoding, seed)["a.w"].astype(np.float64)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_brings_back_numbers_that_the_encoding_can_hold(encoding: Encoding) -> None:
    back = decoded((WEIGHT, MEAN), DELTAS, encoding)

    # The scale of a.weight is 127 divided by the largest level.
    integers = encoding.startswith(("int", "levels"))
    tolerance = 127 / packing(encoding)[2] * (1 + 1e-6) if integers else 0.0
    assert np.abs(back["a.weight"] - DELTAS["a.weight"]).max() <= tolerance
    assert back["a.weight"].shape == (2, 3)
    assert back["a.weight"][1, 0] == pytest.approx(127.0)
    assert back["a.weight"][1, 1] == 0.0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_leaves_statistics_as_they_are(encoding: Encoding) -> None:
    mean = decoded((WEIGHT, MEAN), DELTAS, encoding)["a.mean"]

    assert (mean.dtype, mean.shape, float(mean)) == (np.float32, (), float(np.float32(0.1)))


def test_sizes_are_those_of_the_types() -> None:
    held = {encoding: load(encode_unit((WEIGHT, BIAS, MEAN), DELTAS, encoding)) for encoding in ("fp16", "int8")}

    assert {name: array.dtype.name for name, array in held["fp16"].items()} == {
        "a.weight": "float16", "a.bias": "float16", "a.mean": "float32"
    }  # fmt: skip
    assert {name: array.dtype.name for name, array in held["int8"].items()} == {
        "a.weight": "int8", "a.bias": "int8", "a.mean": "float32", "scales": "float32"
    }  # fmt: skip
    # In the order of the unit, not of the names.
    np.testing.assert_array_equal(held["int8"]["scales"], [1.0, 1 / 1024])


def test_no_encoding_is_plain_safetensors_of_what_is_asked_for() -> None:
    held = load(encode_unit((BIAS,), DELTAS, "none"))

    assert list(held) == ["a.bias"]
    np.testing.assert_array_equal(held["a.bias"], DELTAS["a.bias"])


finite = arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**30), 2.0**30, width=32))


@given(values=finite, seed=st.integers(0, 2**63 - 1))
def test_integers_are_off_by_less_than_a_scale(values: Array, seed: int) -> None:
    scale = np.abs(values).max().astype(np.float64) / 127
    error = np.abs(one(values, "int8", seed) - values.astype(np.float64))

    # The second term is of numbers so small that float32 counts them in whole steps.
    assert error.max() <= scale * (1 + 2.0**-16) + 128 * np.finfo(np.float32).smallest_subnormal


@pytest.mark.parametrize(("encoding", "largest", "bits"), [
    ("int4+zstd", 7, 4), ("int2+zstd", 1, 2), ("levels:3+zstd", 1, 1.6), ("levels:5+zstd", 2, 8 / 3)
])  # fmt: skip
def test_few_levels_are_unbiased_and_no_longer_than_their_bits(encoding: Encoding, largest: int, bits: float) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 40_000).astype(np.float32)
    values[0] = 1.0
    back = one(values, encoding, 5)

    assert np.unique(back).size == 2 * largest + 1
    assert np.abs(back - values).max() <= (1 + 2.0**-15) / largest
    # The error of one value has a standard deviation of less than half a step.
    assert abs(float(np.mean(back - values))) < 3 * 0.5 / largest / 200
    spec = TensorSpec("a.w", values.shape, "trained")
    assert 8 * len(encode_unit((spec,), {"a.w": values}, encoding, seed=5)) < 1.01 * bits * values.size + 1000


ODD = st.integers(1, 127).map(lambda largest: 2 * largest + 1)


@settings(max_examples=25)
@given(values=finite, levels=ODD, seed=st.integers(0, 2**63 - 1))
def test_any_odd_number_of_levels_is_off_by_less_than_a_scale_and_stays_within(
    values: Array, levels: int, seed: int
) -> None:
    largest = levels // 2
    back, top = one(values, f"levels:{levels}+zstd", seed), float(np.abs(values).max())
    tiny = (largest + 1) * np.finfo(np.float32).smallest_subnormal

    assert np.abs(back - values.astype(np.float64)).max() <= top / largest * (1 + 2.0**-16) + tiny
    assert np.abs(back).max() <= top * (1 + 2.0**-22) + tiny
    assert (back[values == 0] == 0).all()


@settings(max_examples=25)
@given(values=finite, levels=ODD, order=st.randoms(use_true_random=False))
def test_rounding_to_nearest_levels_does_not_depend_on_the_order(values: Array, levels: int, order: Random) -> None:
    places = list(range(values.size))
    order.shuffle(places)
    spec, encoding = TensorSpec("a.w", values.shape, "trained"), f"levels:{levels}+zstd"
    plain, shuffled = (
        admit_part(
            Unit("L1", "l1", "layer", 1, (spec,)),
            (spec,),
            encode_unit((spec,), {"a.w": part}, encoding, nearest=True),
            encoding,
        )["a.w"]
        for part in (values / np.float32(2**20), (values / np.float32(2**20))[places])
    )

    assert (plain[places] == shuffled).all()


@settings(max_examples=25)
@given(levels=ODD, value=st.floats(-1, 1, width=32))
def test_mean_of_all_roundings_is_the_value_for_any_number_of_levels(levels: int, value: float) -> None:
    # As many elements as there are 16-bit numbers would be exact; of 4,096 the mean is off by five deviations at most.
    values = np.full(4097, value, np.float32)
    values[0] = 1.0
    mean = float(one(values, f"levels:{levels}+zstd", levels)[1:].mean())

    assert abs(mean - value) <= 5 * 0.5 / (levels // 2) / np.sqrt(4096)


@settings(max_examples=25)
@given(levels=st.lists(st.integers(-127, 127), max_size=40), at_least=ODD)
def test_packed_levels_come_back_and_fill_as_few_bytes_as_they_can(levels: list[int], at_least: int) -> None:
    most = max([1, at_least // 2, *map(abs, levels)])
    encoding, whole = f"levels:{2 * most + 1}+zstd", np.array(levels, np.int8)
    packed = packed_levels(whole, encoding, most)

    assert unpacked_levels(packed, encoding, most)[: whole.size].tolist() == levels
    assert packed.size == -(-whole.size // packing(encoding)[0])


@settings(max_examples=25)
@given(values=finite, levels=st.sampled_from([3, 15, 255]), seed=st.integers(0, 2**63 - 1))
def test_levels_by_number_are_those_of_the_encodings_in_bits(values: Array, levels: int, seed: int) -> None:
    in_bits = {3: "int2+zstd", 15: "int4+zstd", 255: "int8+zstd"}[levels]

    np.testing.assert_array_equal(one(values, f"levels:{levels}+zstd", seed), one(values, in_bits, seed))


@given(values=finite)
def test_half_precision_is_off_by_half_a_step(values: Array) -> None:
    exact = values.astype(np.float64)
    error = np.abs(one(values, "fp16") - exact)

    assert (error <= np.maximum(2.0**-11 * np.abs(exact), 2.0**-25)).all()


@given(values=finite, encoding=st.sampled_from(ENCODINGS), seed=st.integers(0, 2**63 - 1))
def test_same_deltas_and_seed_give_the_same_bytes(values: Array, encoding: Encoding, seed: int) -> None:
    spec = TensorSpec("a.w", values.shape, "trained")
    first, again = (encode_unit((spec,), {"a.w": values.copy()}, encoding, seed=seed) for _ in range(2))

    assert first == again


def test_rounding_is_right_on_average() -> None:
    values = [1.0, 0.3, -0.3, 0.001, -0.9, 0.5 / 127, 0.0]
    rounds = 4000
    rounded = np.array([one(values, "int8", seed) for seed in range(rounds)])

    # Of one rounding the standard deviation is half a scale at most: five of them of the mean.
    assert np.abs(rounded.mean(axis=0) - np.float32(values)).max() < 5 * 0.5 / 127 / np.sqrt(rounds)
    assert len(set(rounded[:, 1])) == 2  # the neighbours of 0.3, both of them
    assert set(rounded[:, 6]) == {0.0}


def test_rounding_of_a_large_tensor_has_no_drift() -> None:
    values = np.random.default_rng(1).normal(0, 1e-3, 300_000).astype(np.float32)
    error = (one(values, "int8") - values) / (np.abs(values).max() / 127)

    assert abs(error.mean()) < 5 * 0.5 / np.sqrt(values.size)
    assert np.abs(error).max() <= 1.0


def test_seeds_differ_by_round_device_and_unit() -> None:
    seeds = {
        rounding_seed(seed, round, device, unit)
        for seed in (1, 2)
        for round in (1, 2)
        for device in ("a", "b")
        for unit in ("L1", "L2")
    }
    values = np.linspace(-1, 1, 1000, dtype=np.float32)

    assert len(seeds) == 16
    assert len({one(values, "int8", seed).tobytes() for seed in seeds}) == 16


def test_bytes_are_the_same_on_every_machine() -> None:
    spec = TensorSpec("a.w", (8,), "trained")
    values = np.linspace(-1, 1, 8, dtype=np.float32)
    held = load(encode_unit((spec,), {"a.w": values}, "int8", seed=rounding_seed(7, 3, "pi-1", "L1")))

    assert held["a.w"].tolist() == [-127, -91, -54, -18, 18, 55, 91, 127]


@pytest.mark.parametrize(("encoding", "values"), [
    ("fp16", [65504.5, 1.0]), ("fp16", [1e30, 1.0]), ("fp16", [np.nan, 1.0]), ("int8", [1.0, np.nan]),
    ("int8", [-np.inf, 1.0]), ("int8+zstd", [np.nan, np.inf]),
])  # fmt: skip
def test_tensor_that_the_encoding_cannot_hold_stays_float32(encoding: Encoding, values: list[float]) -> None:
    np.testing.assert_array_equal(one(values, encoding), np.float32(values))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_takes_empty_tensors_scalars_and_noughts(encoding: Encoding) -> None:
    shapes = [(0, 3), (), (2,)]
    tensors = tuple(TensorSpec(f"a.{i}", shape, "trained") for i, shape in enumerate(shapes))
    back = decoded(tensors, {t.name: np.zeros(t.shape, np.float32) for t in tensors}, encoding)

    assert [array.shape for array in back.values()] == shapes
    assert not any(array.any() for array in back.values())


def frame(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(content)


def test_decompresses_one_whole_frame() -> None:
    assert decompress(frame(b"deltas" * 100), 600) == b"deltas" * 100
    assert decompress(frame(b""), 0) == b""


@settings(max_examples=25)
@given(
    content=st.binary(min_size=1, max_size=3000),
    again=st.integers(1, 40),
    encoding=st.sampled_from([one for one in ENCODINGS if is_compressed(one)]),
)
def test_frames_hold_any_content_and_pass_the_checks_of_the_receiver(
    content: bytes, again: int, encoding: Encoding
) -> None:
    whole = content * again
    packed = compress(whole, encoding)

    assert decompress(packed, len(whole)) == whole
    assert len(packed) <= frame_bounds(len(whole))[1]


@pytest.mark.parametrize("level", [1, 3, 19])
def test_frames_of_any_level_are_admitted_as_the_same_values(level: int) -> None:
    spec, encoding = TensorSpec("a.w", (300,), "trained"), "levels:5+zstd"
    unit = Unit("L1", "l1", "layer", 1, (spec,))
    sent = encode_unit((spec,), {"a.w": np.linspace(-1, 1, 300, dtype=np.float32)}, encoding, seed=3)
    other = zstandard.ZstdCompressor(level=level).compress(decompress(sent, 5000))

    assert other != sent
    assert (
        admit_part(unit, (spec,), other, encoding)["a.w"].tobytes()
        == admit_part(unit, (spec,), sent, encoding)["a.w"].tobytes()
    )


def test_few_levels_take_fewer_bytes_than_at_a_level_of_the_library() -> None:
    values = np.random.default_rng(1).normal(0, 1, 20_000).astype(np.float32)
    spec = TensorSpec("a.w", values.shape, "trained")
    for encoding in ("int2+zstd", "levels:5+zstd", "levels:31+zstd"):
        sent = encode_unit((spec,), {"a.w": values}, encoding, seed=1)
        assert len(sent) < len(frame(decompress(sent, 1 << 20)))


@pytest.mark.parametrize(("blob", "words"), [
    (frame(bytes(601)), "declares 601 bytes, over the limit of 600"),
    (frame(bytes(10), write_content_size=False), "declares no size"),
    (frame(bytes(10)) + b"x", "not a whole"),
    (frame(bytes(10)) * 2, "not a whole"),
    (frame(bytes(10))[:-1], "not a whole"),
    (b"", "not a whole"),
    (b"\x00" * 40, "not a whole"),
])  # fmt: skip
def test_refuses_what_is_not_one_whole_frame_within_the_limit(blob: bytes, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        decompress(blob, 600)
