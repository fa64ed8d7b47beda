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
``levels`` the same with any odd number N of levels (``levels:N``): the digits of a number of base N, the first one
           lowest, as many of them in a byte as there is room for
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

from fedlp_edge.core.accounting import level_count, level_packing
from fedlp_edge.core.algorithm.scaled_integers import BLOCK
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.seeds import derive
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.tensors import FLOAT16, FLOAT32, INT8, UINT8, WIDTH, Array, Blob, pieces

SCALES: Final = "scales"
"""Name of the tensor of scales; it cannot clash with a model's tensors, whose names all have a dot."""

_ZSTD_SUFFIX = "+zstd"
_LARGEST_HALF = 65504.0
_DITHER_BITS = 16
_HALF = 1 << (_DITHER_BITS - 1)
_SMALLEST_FRAME = 9
_SMALLEST_WINDOW = 1 << 10

_NARROW = {"none": FLOAT32, "fp16": FLOAT16, "int8": INT8}


def number_format(encoding: str) -> str:
    """Returns the encoding without its compression, such as ``fp16`` or ``levels:5``."""
    return encoding.removesuffix(_ZSTD_SUFFIX)


def is_compressed(encoding: Encoding) -> bool:
    """Returns whether the encoding compresses the file with Zstandard."""
    return encoding.endswith(_ZSTD_SUFFIX)


def dtypes(spec: TensorSpec, encoding: Encoding) -> tuple[str, ...]:
    """Returns the safetensors types in which a tensor may be encoded, the intended one first."""
    narrow = _NARROW.get(number_format(encoding), UINT8)
    return (narrow, FLOAT32) if spec.trainable and narrow != FLOAT32 else (FLOAT32,)


def integer_type(encoding: Encoding) -> str:
    """Returns the safetensors type of the integers in this encoding; a tensor of that type has a scale."""
    return INT8 if number_format(encoding) == "int8" else UINT8


def stored_shape(spec: TensorSpec, dtype: str, encoding: Encoding) -> tuple[int, ...]:
    """Returns the shape in which a tensor is stored: its own, unless several levels share a byte."""
    if dtype != UINT8:
        return spec.shape
    return (-(-spec.numel // level_packing(encoding)[0]),)


def unpacked(stored: npt.NDArray[Any], spec: TensorSpec, encoding: Encoding) -> npt.NDArray[Any]:
    """Returns the levels of a tensor, of which several may share a byte, in its own shape."""
    if stored.dtype != np.uint8:
        return stored
    return unpacked_levels(stored, encoding, level_count(encoding) // 2)[: spec.numel].reshape(spec.shape)


def packed_levels(levels: npt.NDArray[np.int8], encoding: str, zero: int) -> npt.NDArray[np.uint8]:
    """Returns levels as bytes that hold several each; what is left of the last byte holds zeros.

    Args:
        levels: Levels in any shape.
        encoding: Encoding of an update or of a model, which says how many share a byte.
        zero: Digit that stands for the level 0.
    """
    count, base = level_packing(encoding)
    digits = np.zeros((-(-levels.size // count), count), dtype=np.uint8)
    # Modulo 256, so that levels below 0 need no wider type.
    digits.reshape(-1)[: levels.size] = levels.reshape(-1).view(np.uint8) + np.uint8(zero)
    packed = digits[:, 0].copy()
    for place in range(1, count):
        packed += digits[:, place] * np.uint8(base**place)
    return packed


def unpacked_levels(stored: npt.NDArray[np.uint8], encoding: str, zero: int) -> npt.NDArray[np.int8]:
    """Returns the levels in bytes that hold several each, those of the last byte that are none included."""
    count, base = level_packing(encoding)
    levels = np.empty((stored.size, count), dtype=np.uint8)
    for place in range(count):
        levels[:, place] = stored // np.uint8(base**place)
        if place + 1 < count or base**count < 1 << 8:
            levels[:, place] %= np.uint8(base)
    return (levels.reshape(-1) - np.uint8(zero)).view(np.int8)


def body_bounds(tensors: Sequence[TensorSpec], encoding: Encoding) -> tuple[int, int]:
    """Returns the smallest and largest bytes of these tensors behind a safetensors header, scales included."""
    kinds = [(tensor, dtypes(tensor, encoding)[0]) for tensor in tensors]
    least = sum(WIDTH[dtype] * math.prod(stored_shape(tensor, dtype, encoding)) for tensor, dtype in kinds)
    most = sum(4 * tensor.numel for tensor in tensors)
    if level_count(encoding):
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
    """Encodes one unit's part of an update as bytes, see ``encoded_pieces``."""
    return b"".join(encoded_pieces(tensors, deltas, encoding, seed=seed, nearest=nearest))


def encoded_pieces(
    tensors: Sequence[TensorSpec],
    deltas: Mapping[str, Array],
    encoding: Encoding,
    *,
    seed: int = 0,
    nearest: bool = False,
) -> list[bytes | memoryview]:
    """Encodes one unit's part of an update as the parts of its bytes, which are not joined.

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
    largest = level_count(encoding) // 2
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
            packed[spec.name] = levels if narrow == INT8 else packed_levels(levels, encoding, largest)
    if scales:
        packed[SCALES] = np.array(scales, dtype="<f4")
    parts = pieces(packed)
    return [compress(b"".join(parts), encoding)] if is_compressed(encoding) else parts


def compress(content: bytes, encoding: str) -> bytes:
    """Compresses a file of encoded numbers to a Zstandard frame that declares its size.

    Numbers of a model hardly repeat, and most repetitions that are found cost more than they save. So the tables that
    find them are as small as can be, and what saves is the entropy coder. Where several levels share a byte, or 256
    values are far more than there are levels, the optimal parser saves up to a fifth for 10 to 60 ns a parameter.

    Args:
        content: Bytes of the file, which are not empty.
        encoding: Encoding of its numbers.
    """
    searched = level_count(encoding) and number_format(encoding) != "int8"
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1,
        source_size=len(content),
        strategy=zstandard.STRATEGY_BTOPT if searched else zstandard.STRATEGY_FAST,
        min_match=6 if searched else 7,
        search_log=1,
        chain_log=6,
        hash_log=6,
        target_length=16 if searched else 0,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


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


def widen(values: npt.NDArray[Any]) -> Array:
    """Converts encoded numbers to read-only float32."""
    wide: Array = np.asarray(values, dtype="<f4")
    wide.flags.writeable = False
    return wide


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
    over ``r`` is exact, and since ``|x| <= 127 scale`` the result cannot leave -127 .. 127. With N levels it
    is (N - 1) / 2 in place of 127. Without a generator ``r`` is one half, which rounds to nearest.
    """
    flat = delta.reshape(-1)
    rounded = np.zeros(flat.size, dtype=np.int8)
    if not scale:
        return rounded.reshape(delta.shape)
    size = min(BLOCK, flat.size)
    quotient, fixed = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.int32)
    for start in range(0, flat.size, BLOCK):
        piece = flat[start : start + BLOCK]
        ratio, bits = quotient[: piece.size], fixed[: piece.size]
        np.divide(piece, scale, out=ratio)
        ratio *= 2.0**_DITHER_BITS
        bits[...] = np.rint(ratio, out=ratio)
        bits += _HALF if dither is None else _dither(dither, piece.size)
        bits >>= _DITHER_BITS
        rounded[start : start + BLOCK] = bits
    return rounded.reshape(delta.shape)


def _dither(source: np.random.SFC64, count: int) -> npt.NDArray[np.uint16]:
    """Returns uniform 16-bit numbers that are the same on every machine: raw output, read as little-endian."""
    raw = np.asarray(source.random_raw(-(-count // 4)), dtype="<u8")
    return raw.view("<u2")[:count]
