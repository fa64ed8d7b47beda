"""This module encodes the weights of a model for their way to the devices, and decodes them there.

What devices decode *is* the model that they train from, in the same bits on all of them. The coordinator keeps the
weights in full precision and adds the devices' changes to those, so what rounding takes from one version is in a later
one, and nothing drifts. Weights are encoded rather than changes of weights, so a device that was away needs the latest
version alone.

=========  ==================================================================================================
``none``   float32
``fp16``   trained values in IEEE half precision
``int8``   trained values of two or more dimensions as integers -127..127, one float32 scale for each index of
           the first dimension (an output channel)
``int4``   the same as integers -7..7, two in a byte, one half-precision scale for 32 consecutive values
``int2``   the same as -1, 0 or 1, four in a byte; the scale and what becomes 0 are those of ternary weight networks
           (arXiv 1605.04711): 0 up to three quarters of the mean magnitude, the scale the mean of what is above
``levels`` the same as integers of any odd number N of levels (``levels:N``), as many in a byte as there is room for
           in a number of base N; 3 levels as with ``int2``
=========  ==================================================================================================

The format is safetensors, with the names of the model; scales stand beside under ``scales/NAME``. Statistics, values of
one dimension, and whatever a format cannot hold stay float32. With ``+zstd`` the file is one Zstandard frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.accounting import INT8_LEAST_SHARED, level_count, level_packing
from fedlp_edge.core.accounting import SCALE_BLOCK as BLOCK
from fedlp_edge.core.algorithm.scaled_integers import BLOCK as CACHED
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.compression import compress, decompress, frame_bounds, packed_levels, unpacked_levels
from fedlp_edge.wire.tensors import (
    FLOAT16,
    FLOAT32,
    INT8,
    MAX_HEADER_BYTES,
    UINT8,
    Array,
    Blob,
    TensorInfo,
    pack,
    read_header,
    view_any,
)

_SCALES = "scales/"
_ZSTD_SUFFIX = "+zstd"
_LARGEST_HALF = 65504.0
_ZERO_OF_INT4 = 8  # what stands for 0 in half a byte; with other encodings it is in the middle of the levels
_TERNARY_THRESHOLD = 0.75

_Stored = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]


def encode_weights(tensors: Sequence[TensorSpec], weights: Mapping[str, Array], encoding: BroadcastEncoding) -> bytes:
    """Encodes one unit of a model as bytes, which are a function of the weights alone.

    Args:
        tensors: Tensors of the unit.
        weights: Weights by tensor name, float32; other names are ignored.
        encoding: Encoding.
    """
    plain = {spec.name: np.require(weights[spec.name], dtype="<f4", requirements="C") for spec in tensors}
    number_format = encoding.removesuffix(_ZSTD_SUFFIX)
    if number_format == "none":
        whole = pack(plain)
    else:
        packed: dict[str, npt.NDArray[Any]] = {}
        for spec in tensors:
            packed |= _narrowed(spec, plain[spec.name], number_format)
        whole = pack(packed)
    return compress(whole, encoding) if encoding.endswith(_ZSTD_SUFFIX) else whole


class EncodedWeights:
    """One unit's weights in the bytes that came, of which one tensor at a time is decoded.

    Args:
        tensors: Tensors that the unit must have.
        blob: What `encode_weights` gave; it must not change while this object is in use.
        encoding: Encoding that was asked for.

    Raises:
        PeerError: The bytes are not these tensors in this encoding.
    """

    def __init__(self, tensors: Sequence[TensorSpec], blob: Blob, encoding: BroadcastEncoding) -> None:
        self._number_format = encoding.removesuffix(_ZSTD_SUFFIX)
        if encoding.endswith(_ZSTD_SUFFIX):
            most = MAX_HEADER_BYTES + 8 * sum(4 * (spec.numel + 1) for spec in tensors)
            if len(blob) > frame_bounds(most)[1]:
                raise PeerError(f"a frame of {len(blob)} bytes is longer than these weights can be")
            blob = decompress(blob, most)
        header, body = read_header(blob)
        self._stored: dict[str, _Stored] = {}
        expected: set[str] = set()
        for spec in tensors:
            stored = self._stored[spec.name] = _stored(spec, header, body, self._number_format)
            expected |= {spec.name} if stored[1] is None else {spec.name, _SCALES + spec.name}
        if unknown := header.keys() - expected:
            raise PeerError(f"the weights hold an unknown tensor {min(unknown)[:200]!r}")

    def read(self, spec: TensorSpec) -> Array:
        """Decodes one of the unit's tensors, as read-only float32; the values are the same on every machine."""
        return _wide(spec, *self._stored[spec.name], self._number_format)

    def bounds(self, spec: TensorSpec) -> tuple[float, float]:
        """Returns two numbers between which all values of a tensor are; of integers, without decoding them.

        Returns:
            The smallest and the largest value, or the largest magnitude that integers and scales allow, with both
            signs; NaN if any value is, and 0 for a tensor of no values.
        """
        stored, scales = self._stored[spec.name]
        if not stored.size:
            return 0.0, 0.0
        low, high = float(stored.min()), float(stored.max())
        if scales is None:
            return low, high
        levels = max(-low, high) if stored.dtype == np.int8 else level_count(self._number_format) // 2 + 1
        with np.errstate(over="ignore"):
            largest = float(np.abs(scales).max().astype(np.float32) * np.float32(levels))
        return -largest, largest


def decode_weights(tensors: Sequence[TensorSpec], blob: Blob, encoding: BroadcastEncoding) -> dict[str, Array]:
    """Decodes all tensors of a unit, see `EncodedWeights`.

    Raises:
        PeerError: The bytes are not these tensors in this encoding.
    """
    encoded = EncodedWeights(tensors, blob, encoding)
    return {spec.name: encoded.read(spec) for spec in tensors}


def published_weights(
    tensors: Sequence[TensorSpec], weights: Mapping[str, Array], encoding: BroadcastEncoding
) -> dict[str, Array]:
    """Returns what devices decode from the encoded weights: the model that they train from.

    Args:
        tensors: Tensors to publish.
        weights: Weights by tensor name, float32.
        encoding: Encoding.
    """
    number_format = encoding.removesuffix(_ZSTD_SUFFIX)
    if number_format == "none":
        return {spec.name: weights[spec.name] for spec in tensors}
    return {spec.name: _published(spec, weights[spec.name], number_format) for spec in tensors}


def _published(spec: TensorSpec, value: Array, number_format: str) -> Array:
    parts = _narrowed(spec, np.require(value, dtype="<f4", requirements="C"), number_format)
    return _wide(spec, parts[spec.name], parts.get(_SCALES + spec.name), number_format)


def _narrowed(spec: TensorSpec, value: Array, number_format: str) -> dict[str, npt.NDArray[Any]]:
    """Returns a tensor in a number format with its scales, or as it is where the format does not suit it."""
    # Without an array of magnitudes, which a large tensor has to have memory for.
    top = max(-float(value.min()), float(value.max())) if spec.trainable and value.size else 0.0
    if not 0 < top <= _LARGEST_HALF:  # nor NaN
        return {spec.name: value}
    if number_format == "fp16":
        return {spec.name: value.astype("<f2")}
    if value.ndim < 2 or (number_format == "int8" and value.size < INT8_LEAST_SHARED * len(value)):
        return {spec.name: value}
    levels = np.float32(level_count(number_format) // 2)
    rows = _rows(value, number_format)
    if levels == 1:
        whole, scales = _ternary(rows)
        return _packed(spec, whole, scales, number_format)
    scales = _row_peaks(rows) / levels
    if number_format != "int8":
        scales = scales.astype("<f2").astype("<f4")
    whole = _levels(rows, scales, levels)
    if number_format == "int8":
        return {spec.name: whole.reshape(value.shape), _SCALES + spec.name: scales.astype("<f4")}
    return _packed(spec, whole, scales, number_format)


def _levels(rows: Array, scales: Array, largest: np.float32) -> npt.NDArray[np.int8]:
    """Returns rows as integers that their scales are to be multiplied by, to nearest.

    Args:
        rows: [rows, values].
        scales: [rows], not negative.
        largest: Largest magnitude of an integer.
    """
    whole = np.empty(rows.shape, dtype=np.int8)
    divisors = np.where(scales > 0, scales, np.float32(np.inf))[:, None]
    for part in _parts(rows):
        ratios = rows[part] / divisors[part]
        np.rint(ratios, out=ratios)
        # A scale that was rounded down would make the largest value one level too large.
        whole[part] = np.clip(ratios, -largest, largest, out=ratios)
    return whole


def _row_peaks(rows: Array) -> Array:
    """Returns the largest magnitude of each row."""
    peaks = np.empty(len(rows), dtype=np.float32)
    for part in _parts(rows):
        peaks[part] = np.abs(rows[part]).max(axis=1)
    return peaks


def _parts(rows: Array) -> Iterator[slice]:
    """Yields slices of so many rows that temporary arrays of them stay in the processor's cache."""
    step = max(1, CACHED // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def _packed(
    spec: TensorSpec, whole: npt.NDArray[np.int8], scales: Array, number_format: str
) -> dict[str, npt.NDArray[Any]]:
    """Returns levels as bytes that hold several each, the first one lowest, with their scales."""
    stored = packed_levels(whole, number_format, _zero(number_format))
    return {spec.name: stored, _SCALES + spec.name: scales.astype("<f2")}


def _zero(number_format: str) -> int:
    """Returns the digit that stands for the level 0."""
    return _ZERO_OF_INT4 if number_format == "int4" else level_count(number_format) // 2


def _ternary(rows: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Returns the levels and the scales of rows of three levels."""
    sizes = np.abs(rows).astype(np.float64)
    threshold = _TERNARY_THRESHOLD / BLOCK * _row_sums(sizes)
    above = sizes > threshold[:, None]
    counts = above.sum(axis=1)
    scales = (_row_sums(np.where(above, sizes, 0.0)) / np.maximum(counts, 1)).astype("<f2").astype("<f4")
    return (np.sign(rows) * above).astype(np.int8), scales


def _row_sums(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the sums of rows, added in one order on every machine."""
    total = np.zeros(len(rows))
    for column in rows.T:
        total += column
    return total


def _rows(value: Array, number_format: str) -> Array:
    """Returns a tensor as rows that share a scale, zeros at the end of the last one included."""
    if number_format == "int8":
        return value.reshape(len(value), -1)
    flat = value.reshape(-1)
    rows = np.zeros((-(-flat.size // BLOCK), BLOCK), dtype=np.float32)
    rows.reshape(-1)[: flat.size] = flat
    return rows


def _wide(spec: TensorSpec, stored: npt.NDArray[Any], scales: npt.NDArray[Any] | None, number_format: str) -> Array:
    """Returns a stored tensor as read-only float32."""
    if scales is None:
        wide: Array = np.asarray(stored, dtype="<f4")
    elif stored.dtype == np.int8:
        factors = scales.reshape(-1, *(1,) * (stored.ndim - 1))
        wide = np.multiply(stored, factors, dtype=np.float32)
    else:
        whole = unpacked_levels(stored, number_format, _zero(number_format))[: BLOCK * len(scales)]
        scaled = np.multiply(whole.reshape(-1, BLOCK), scales.astype("<f4")[:, None], dtype=np.float32)
        wide = scaled.reshape(-1)[: spec.numel].reshape(spec.shape)
    wide.flags.writeable = False
    return wide


def _stored(spec: TensorSpec, header: Mapping[str, TensorInfo], body: memoryview, number_format: str) -> _Stored:
    """Returns one tensor of a file as it is stored, whatever the file says, and its scales if it has any."""
    info = header.get(spec.name)
    if info is None:
        raise PeerError(f"the weights lack {spec.name}")
    if info.dtype == FLOAT32:
        if info.shape != spec.shape:
            raise _other(spec, info)
        return view_any(spec.name, info, body), None
    blocks = -(-spec.numel // BLOCK)
    stored_as = {"none": (FLOAT32, spec.shape), "fp16": (FLOAT16, spec.shape), "int8": (INT8, spec.shape)}
    if number_format not in stored_as:
        stored_as[number_format] = (UINT8, (-(-blocks * BLOCK // level_packing(number_format)[0]),))
    if not spec.trainable or (info.dtype, info.shape) != stored_as[number_format]:
        raise _other(spec, info)
    stored = view_any(spec.name, info, body)
    if number_format == "fp16":
        return stored, None
    scaled_by = header.get(_SCALES + spec.name)
    count = len(stored) if number_format == "int8" else blocks
    wanted = (FLOAT32 if number_format == "int8" else FLOAT16, (count,))
    if scaled_by is None or (scaled_by.dtype, scaled_by.shape) != wanted:
        raise PeerError(f"the scales of {spec.name} are not those of {number_format}")
    return stored, view_any(_SCALES + spec.name, scaled_by, body)


def _other(spec: TensorSpec, info: TensorInfo) -> PeerError:
    shape = list(info.shape)
    return PeerError(f"{spec.name} came as {info.dtype} {shape}, which is not {list(spec.shape)} in this encoding")
