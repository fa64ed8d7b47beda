"""This module encodes the numbers of an update: as float32, float16 or integers, each perhaps compressed.

It turns the deltas of one unit into bytes and back. The bytes are a function of the deltas and a seed, and the decoded
values a function of the bytes, so a repeated round gives the same bytes, and the exact sum stays exact.
docs/compression.md states the error of each encoding and what it costs in accuracy.

The format is always safetensors, with the names and shapes of the model:

=========  ==================================================================================================
``none``   float32
``fp16``   parameters in IEEE half precision
``int8``   parameters as integers, with one float32 scale each in the tensor ``scales``, in the unit's order
``int4``   the same with the 15 levels -7..7, two in a byte, which holds each plus 7, the first one lowest
``int2``   the same with the levels -1, 0 and 1, four in a byte, which holds each plus 1
=========  ==================================================================================================

Buffers are statistics, not gradients, and stay float32; so does a tensor with a value that the encoding cannot hold.
With ``+zstd`` the file is one Zstandard frame that declares its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard
from safetensors.numpy import save

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.seeds import derive
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.tensors import FLOAT16, FLOAT32, INT8, UINT8, WIDTH, Array, Blob

SCALES: Final = "scales"
"""Name of the tensor of scales; it cannot clash with a model's tensors, whose names all have a dot."""

ZSTD_LEVEL = 3

_ZSTD_SUFFIX = "+zstd"
_LARGEST_HALF = 65504.0
_LARGEST_LEVEL = {"int8": 127, "int4": 7, "int2": 1}
_LEVELS_IN_BYTE = {"int4": 2, "int2": 4}
_DITHER_BITS = 16
_HALF = 1 << (_DITHER_BITS - 1)
_BLOCK = 1 << 16  # elements; the temporary arrays of one block fit into the second-level cache
_SMALLEST_FRAME = 9
_SMALLEST_WINDOW = 1 << 10

_NARROW = {"none": FLOAT32, "fp16": FLOAT16, "int8": INT8, "int4": UINT8, "int2": UINT8}


def number_format(encoding: Encoding) -> str:
    """Returns the encoding without its compression: ``none``, ``fp16``, ``int8``, ``int4`` or ``int2``."""
    return encoding.removesuffix(_ZSTD_SUFFIX)


def is_compressed(encoding: Encoding) -> bool:
    """Returns whether the encoding compresses the file with Zstandard."""
    return encoding.endswith(_ZSTD_SUFFIX)


def dtypes(spec: TensorSpec, encoding: Encoding) -> tuple[str, ...]:
    """Returns the safetensors types in which a tensor may be encoded, the intended one first."""
    narrow = _NARROW[number_format(encoding)]
    return (narrow, FLOAT32) if spec.trainable and narrow != FLOAT32 else (FLOAT32,)


def integer_type(encoding: Encoding) -> str:
    """Returns the safetensors type of the integers in this encoding; a tensor of that type has a scale."""
    return UINT8 if number_format(encoding) in _LEVELS_IN_BYTE else INT8


def stored_shape(spec: TensorSpec, dtype: str, encoding: Encoding) -> tuple[int, ...]:
    """Returns the shape in which a tensor is stored: its own, unless several levels share a byte."""
    if dtype != UINT8:
        return spec.shape
    return (-(-spec.numel // _LEVELS_IN_BYTE[number_format(encoding)]),)


def unpacked(stored: npt.NDArray[Any], spec: TensorSpec, encoding: Encoding) -> npt.NDArray[Any]:
    """Returns the levels of a tensor, of which several may share a byte, in its own shape."""
    if stored.dtype != np.uint8:
        return stored
    count, largest = _LEVELS_IN_BYTE[number_format(encoding)], _LARGEST_LEVEL[number_format(encoding)]
    levels = np.empty((stored.size, count), dtype=np.int8)
    for place in range(count):
        levels[:, place] = (stored >> (place * 8 // count)) & ((1 << 8 // count) - 1)
    levels -= np.int8(largest)
    return levels.reshape(-1)[: spec.numel].reshape(spec.shape)


def body_bounds(tensors: Sequence[TensorSpec], encoding: Encoding) -> tuple[int, int]:
    """Returns the smallest and largest bytes of these tensors behind a safetensors header, scales included."""
    kinds = [(tensor, dtypes(tensor, encoding)[0]) for tensor in tensors]
    least = sum(WIDTH[dtype] * math.prod(stored_shape(tensor, dtype, encoding)) for tensor, dtype in kinds)
    most = sum(4 * tensor.numel for tensor in tensors)
    if number_format(encoding) in _LARGEST_LEVEL:
        most += 4 * sum(tensor.trainable for tensor in tensors)
    return least, most


def frame_bounds(most: int) -> tuple[int, int]:
    """Returns the smallest and largest frame of up to ``most`` bytes (Zstandard's ``ZSTD_COMPRESSBOUND``), in bytes."""
    return _SMALLEST_FRAME, most + (most >> 8) + max(0, (128 * 1024 - most) >> 11)


def rounding_seed(seed: int, round: int, device: str, unit: str) -> int:
    """Returns the seed of the stochastic rounding of one unit's deltas, so that a repeated task rounds alike."""
    return derive(seed, round, device, unit, "int8")


def encode_unit(
    tensors: Sequence[TensorSpec],
    deltas: Mapping[str, Array],
    encoding: Encoding,
    *,
    seed: int = 0,
    nearest: bool = False,
) -> bytes:
    """Encodes one unit's part of an update as bytes.

    Args:
        tensors: Tensors of the unit that are sent, in the order of the blueprint.
        deltas: Deltas by tensor name, float32; names that are not in ``tensors`` are ignored.
        encoding: Encoding that the task asks for.
        seed: Seed of the stochastic rounding (``rounding_seed``); used by integers alone.
        nearest: Whether integers are rounded to nearest instead, as error feedback needs it.
    """
    packed: dict[str, npt.NDArray[Any]] = {}
    scales: list[np.float32] = []
    dither = None if nearest else np.random.SFC64(seed)
    largest = _LARGEST_LEVEL.get(number_format(encoding), 0)
    for spec in tensors:
        # np.ascontiguousarray would make a scalar one-dimensional.
        delta = np.require(deltas[spec.name], dtype="<f4", requirements="C")
        packed[spec.name] = delta
        narrow, top = dtypes(spec, encoding)[0], _magnitude(delta)
        if narrow == FLOAT16 and top <= _LARGEST_HALF:
            packed[spec.name] = delta.astype("<f2")
        elif narrow in (INT8, UINT8) and math.isfinite(top):
            scales.append(_scale(top, largest))
            levels = _quantise(delta, scales[-1], dither)
            packed[spec.name] = levels if narrow == INT8 else _packed(levels, number_format(encoding))
    if scales:
        packed[SCALES] = np.array(scales, dtype="<f4")
    # Sorted, so that the bytes do not depend on the order of the mapping.
    whole = bytes(save({name: packed[name] for name in sorted(packed)}))
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(whole) if is_compressed(encoding) else whole


def decompress(frame: Blob, most: int) -> bytes:
    """Decompresses a Zstandard frame of at most ``most`` bytes.

    No memory is allocated before the frame has declared a size within the limit, and a window no larger than that.

    Raises:
        PeerError: The bytes are not exactly one whole frame, or the frame declares no size or too large a size.
    """
    try:
        declared = zstandard.get_frame_parameters(frame)
        size, window = declared.content_size, declared.window_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > most:
            raise PeerError(f"zstandard frame declares {_said(size)}, over the limit of {most}")
        if window > max(size, _SMALLEST_WINDOW):
            raise PeerError(f"zstandard frame of {size} bytes asks for a window of {window}")
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PeerError(f"not a whole zstandard frame: {error}") from None
    if len(content) != size:
        raise PeerError(f"zstandard frame holds {len(content)} bytes and declares {size}")
    return content


def widen(values: npt.NDArray[Any], scale: np.float32 | None = None) -> Array:
    """Converts encoded numbers to read-only float32; ``scale`` multiplies integers."""
    wide: Array = np.asarray(values if scale is None else np.multiply(values, scale, dtype=np.float32), dtype="<f4")
    wide.flags.writeable = False
    return wide


def _packed(levels: npt.NDArray[np.int8], narrow: str) -> npt.NDArray[np.uint8]:
    """Returns levels as bytes that hold several each; what is left of the last byte holds the lowest level."""
    count = _LEVELS_IN_BYTE[narrow]
    codes = np.zeros((-(-levels.size // count), count), dtype=np.uint8)
    codes.reshape(-1)[: levels.size] = levels.reshape(-1) + np.int8(_LARGEST_LEVEL[narrow])
    packed = np.zeros(len(codes), dtype=np.uint8)
    for place in range(count):
        packed |= codes[:, place] << np.uint8(place * 8 // count)
    return packed


def _said(size: int) -> str:
    return "no size" if size == zstandard.CONTENTSIZE_UNKNOWN else f"{size} bytes"


def _magnitude(values: Array) -> float:
    """Returns the largest magnitude; NaN or infinite if any element is."""
    if not values.size:
        return 0.0
    low, high = float(values.min()), float(values.max())
    return math.nan if math.isnan(low) else max(-low, high)


def _scale(top: float, largest: int) -> np.float32:
    """Returns the smallest float32 that is at least ``top`` / ``largest``."""
    scale = np.float32(top / largest)
    return scale if float(scale) * largest >= top else np.nextafter(scale, np.float32(np.inf))


def _quantise(delta: Array, scale: np.float32, dither: np.random.SFC64 | None) -> npt.NDArray[np.int8]:
    """Rounds each element to a neighbouring multiple of the scale, the nearer one more often.

    In fixed point: ``floor((rint(2^16 x / scale) + r) / 2^16)`` with ``r`` uniform on the 16-bit integers. Its mean
    over ``r`` is exact, and since ``|x| <= 127 scale`` the result cannot leave -127 .. 127. With fewer levels it
    is 7 or 1 in place of 127. Without a generator ``r`` is one half, which rounds to nearest.
    """
    flat = delta.reshape(-1)
    rounded = np.zeros(flat.size, dtype=np.int8)
    if not scale:
        return rounded.reshape(delta.shape)
    size = min(_BLOCK, flat.size)
    quotient, fixed = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.int32)
    for start in range(0, flat.size, _BLOCK):
        piece = flat[start : start + _BLOCK]
        ratio, bits = quotient[: piece.size], fixed[: piece.size]
        np.divide(piece, scale, out=ratio)
        ratio *= 2.0**_DITHER_BITS
        bits[...] = np.rint(ratio, out=ratio)
        bits += _HALF if dither is None else _dither(dither, piece.size)
        bits >>= _DITHER_BITS
        rounded[start : start + _BLOCK] = bits
    return rounded.reshape(delta.shape)


def _dither(source: np.random.SFC64, count: int) -> npt.NDArray[np.uint16]:
    """Returns uniform 16-bit numbers that are the same on every machine: raw output, read as little-endian."""
    raw = np.asarray(source.random_raw(-(-count // 4)), dtype="<u8")
    return raw.view("<u2")[:count]
