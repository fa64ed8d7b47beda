"""What devices decode is what the coordinator published, near the weights, in few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from safetensors.numpy import save

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import BROADCAST_ENCODINGS, BroadcastEncoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.broadcast_encoding import EncodedWeights, decode_weights, encode_weights, published_weights

ENCODINGS: tuple[BroadcastEncoding, ...] = (*BROADCAST_ENCODINGS, "levels:5", "levels:33+zstd")
WEIGHT = TensorSpec("L1.weight", (2, 8))
BIAS = TensorSpec("L1.bias", (2,))
VARIANCE = TensorSpec("L1.running_var", (2, 1), kind="statistic")
UNIT = (WEIGHT, BIAS, VARIANCE)
VALUES = {
    "L1.weight": np.array([[1.27, -0.5, 0.004, 0, 0, 0, 0, 0], [0.0] * 8], dtype=np.float32),
    "L1.bias": np.array([0.1, -0.3], dtype=np.float32),
    "L1.running_var": np.array([[1e9], [1e-9]], dtype=np.float32),
}


def decoded(encoding: BroadcastEncoding) -> dict[str, np.ndarray]:
    return decode_weights(UNIT, encode_weights(UNIT, VALUES, encoding), encoding)


def test_eight_bits_have_a_scale_for_each_channel() -> None:
    # The scale of the first channel is 1.27 / 127 = 0.01, that of the second is 0.
    np.testing.assert_allclose(decoded("int8")["L1.weight"][:, :3], [[1.27, -0.5, 0.0], [0, 0, 0]], rtol=1e-6)


def test_four_bits_have_a_scale_for_each_block() -> None:
    # Both channels are in one block; its scale is the half nearest to 1.27 / 7 = 0.18143.
    scale = float(np.float16(1.27 / 7))
    np.testing.assert_allclose(decoded("int4")["L1.weight"][:, :3], [[7 * scale, -3 * scale, 0], [0, 0, 0]], rtol=1e-6)


def test_two_bits_hold_the_signs_of_the_large_values() -> None:
    # Of 32 values with the padding, three are not 0 and two above three quarters of the mean magnitude, 1.774 / 32.
    scale = float(np.float16((1.27 + 0.5) / 2))
    np.testing.assert_allclose(decoded("int2")["L1.weight"][:, :3], [[scale, -scale, 0], [0, 0, 0]], rtol=1e-6)


def test_two_bits_come_nearer_than_no_value_at_all() -> None:
    spec, value = TensorSpec("L1.w", (8, 64)), np.random.default_rng(2).standard_normal((8, 64)).astype(np.float32)
    received = published_weights([spec], {"L1.w": value}, "int2")["L1.w"]
    assert np.square(received - value).sum() < 0.25 * np.square(value).sum()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_values_of_one_dimension_and_statistics_lose_little_or_nothing(encoding: BroadcastEncoding) -> None:
    values = decoded(encoding)
    np.testing.assert_array_equal(values["L1.running_var"], VALUES["L1.running_var"])
    half = encoding.startswith("fp16")
    np.testing.assert_allclose(values["L1.bias"], VALUES["L1.bias"], rtol=5e-4 if half else 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_format_cannot_hold_stays_as_it_is(encoding: BroadcastEncoding) -> None:
    values = {"L1.weight": np.arange(16, dtype=np.float32).reshape(2, 8) * 1e4}
    result = decode_weights([WEIGHT], encode_weights([WEIGHT], values, encoding), encoding)
    np.testing.assert_array_equal(result["L1.weight"], values["L1.weight"])


SHAPES = numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=9)
FLOATS = st.floats(-1000, 1000, width=32)


@settings(max_examples=60, deadline=None)
@given(
    SHAPES.flatmap(lambda shape: numpy_strategies.arrays(np.float32, shape, elements=FLOATS)),
    st.sampled_from(ENCODINGS),
)
def test_published_weights_are_what_devices_decode(value: np.ndarray, encoding: BroadcastEncoding) -> None:
    spec, weights = TensorSpec("L1.w", value.shape), {"L1.w": value}
    published = published_weights([spec], weights, encoding)["L1.w"]
    received = decode_weights([spec], encode_weights([spec], weights, encoding), encoding)["L1.w"]
    assert received.dtype == np.float32
    assert received.shape == value.shape
    assert received.tobytes() == published.tobytes()
    steps = {"none": 0.0, "fp16": 2**-11, "int8": 0.5 / 127, "int4": 0.51 / 7, "int2": 1.0}
    steps |= {"levels:5": 0.51 / 2, "levels:33": 0.51 / 16}
    top = float(np.abs(value).max())
    assert np.abs(received - value).max() <= steps[encoding.removesuffix("+zstd")] * top + 1e-6
    # What is published already loses nothing more: a restart publishes the same bits.
    again = published_weights([spec], {"L1.w": published}, encoding)["L1.w"]
    np.testing.assert_allclose(again, published, rtol=1e-3, atol=1e-6)


def test_a_large_layer_takes_the_bytes_that_the_format_says() -> None:
    spec = TensorSpec("L1.w", (64, 256))
    weights = {"L1.w": np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)}
    sizes = {encoding: len(encode_weights([spec], weights, encoding)) for encoding in ENCODINGS}
    numbers = 64 * 256
    assert sizes["none"] - 4 * numbers < 200
    assert sizes["fp16"] - 2 * numbers < 200
    assert sizes["int8"] - (numbers + 4 * 64) < 200
    assert sizes["int4"] - (numbers // 2 + 2 * numbers // 32) < 200
    assert sizes["int2"] - (numbers // 4 + 2 * numbers // 32) < 200
    assert sizes["levels:5"] - (numbers / 3 + 2 * numbers // 32) < 200
    assert sizes["int8+zstd"] < sizes["int8"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_weights_are_refused(encoding: BroadcastEncoding) -> None:
    blob = encode_weights(UNIT, VALUES, encoding)
    with pytest.raises(PeerError, match=r"the weights lack L1.more"):
        decode_weights((*UNIT, TensorSpec("L1.more", (1,))), blob, encoding)
    with pytest.raises(PeerError, match=r"the weights hold an unknown tensor '(scales/)?L1.(weight|bias|running_var)'"):
        decode_weights(UNIT[:1], blob, encoding)
    other = (TensorSpec("L1.weight", (8, 2)), BIAS, VARIANCE)
    if not encoding.startswith(("int4", "int2", "levels")):  # whose blocks do not know the shape
        with pytest.raises(PeerError, match=r"L1.weight came as "):
            decode_weights(other, blob, encoding)
    with pytest.raises(PeerError):
        decode_weights(UNIT, blob[:-1], encoding)


def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(PeerError, match=r"^L1.weight came as I8 \[2, 8\], which is not \[2, 8\] in this encoding$"):
        decode_weights(UNIT, encode_weights(UNIT, VALUES, "int8"), "fp16")
    with pytest.raises(PeerError, match="zstandard"):
        decode_weights(UNIT, encode_weights(UNIT, VALUES, "int8"), "int8+zstd")


@pytest.mark.parametrize("encoding", ["none", "fp16", "int8", "int4", "int2", "levels:5", "int8+zstd"])
def test_bounds_hold_all_values_and_are_nearly_the_largest(encoding: BroadcastEncoding) -> None:
    (spec,) = tensors = (TensorSpec("L1.weight", (2, 32)),)
    weights = {"L1.weight": np.linspace(-3, 5, 64, dtype=np.float32).reshape(2, 32)}
    encoded = EncodedWeights(tensors, encode_weights(tensors, weights, encoding), encoding)
    values, (low, high) = encoded.read(spec), encoded.bounds(spec)
    assert low <= values.min()
    assert values.max() <= high <= 2 * np.abs(values).max()


def test_bounds_of_what_is_no_number_are_none() -> None:
    (spec,) = tensors = (TensorSpec("L1.weight", (2, 8)),)
    blob = save({"L1.weight": np.ones((2, 8), np.int8), "scales/L1.weight": np.array([1, np.nan], np.float32)})
    assert np.isnan(EncodedWeights(tensors, blob, "int8").bounds(spec)).all()
    blob = save({"L1.weight": np.full((2, 8), 127, np.int8), "scales/L1.weight": np.array([1, 3e38], np.float32)})
    assert EncodedWeights(tensors, blob, "int8").bounds(spec) == (-np.inf, np.inf)
