"""Encodings: how far off, how often, how long, and the same again."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.compression import SCALES, decompress, encode_unit, is_compressed, rounding_seed, widen
from fedlp_edge.wire.tensors import Array

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
WEIGHT = TensorSpec("a.weight", (2, 3), "trained")
BIAS = TensorSpec("a.bias", (2,), "trained")
MEAN = TensorSpec("a.mean", (), "statistic")
DELTAS: dict[str, Array] = {
    "a.weight": np.array([[1.0, -0.5, 0.25], [127.0, 0.0, -3.0]], np.float32),
    "a.bias": np.array([127 / 1024, -1 / 1024], np.float32),
    "a.mean": np.array(0.1, np.float32),
}


def decoded(tensors: tuple[TensorSpec, ...], deltas: dict[str, Array], encoding: Encoding, seed: int = 0) -> dict:
    """By an independent reader: the library's, and the formula of the documentation."""
    blob = encode_unit(tensors, deltas, encoding, seed=seed)
    held = load(decompress(blob, 1 << 20) if is_compressed(encoding) else blob)
    scales = list(held.pop(SCALES, ()))
    bits, back = (4 if encoding.startswith("int4") else 2), {}
    for spec in tensors:
        array = held[spec.name]
        if array.dtype == np.uint8:
            codes = [byte >> shift & (1 << bits) - 1 for byte in array.tolist() for shift in range(0, 8, bits)]
            levels = np.array(codes[: spec.numel], np.float64) - ((1 << bits - 1) - 1)
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
    tolerance = {"int8": 1.0, "int4": 127 / 7, "int2": 127.0}.get(encoding[:4], 0.0) * (1 + 1e-6)
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


@pytest.mark.parametrize(("encoding", "largest", "bits"), [("int4+zstd", 7, 4), ("int2+zstd", 1, 2)])
def test_few_levels_are_unbiased_and_no_longer_than_their_bits(encoding: Encoding, largest: int, bits: int) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 40_000).astype(np.float32)
    values[0] = 1.0
    back = one(values, encoding, 5)

    assert np.unique(back).size == 2 * largest + 1
    assert np.abs(back - values).max() <= (1 + 2.0**-15) / largest
    # The error of one value has a standard deviation of less than half a step.
    assert abs(float(np.mean(back - values))) < 3 * 0.5 / largest / 200
    spec = TensorSpec("a.w", values.shape, "trained")
    assert 8 * len(encode_unit((spec,), {"a.w": values}, encoding, seed=5)) < 1.01 * bits * values.size + 1000


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


def test_widens_into_read_only_float32() -> None:
    wide = widen(np.array([-128, 0, 127], np.int8), np.float32(0.5))

    assert (wide.dtype, wide.tolist(), wide.flags.writeable) == (np.float32, [-64.0, 0.0, 63.5], False)


def frame(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(content)


def test_decompresses_one_whole_frame() -> None:
    assert decompress(frame(b"deltas" * 100), 600) == b"deltas" * 100
    assert decompress(frame(b""), 0) == b""


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
