"""The one place where bytes of the network become trusted: bytes in, trusted object out, nothing else.

Pure, so that the security of a fleet is reviewed here. The order is that of cost: who, which round and how
much are settled from the offer, before a byte of it is asked for; then the digest; then the headers, bounded;
then the values. What passes can be added to the model without a further question: the exactness of the
fixed-point sum rests on the limit of a value. docs/security.md lists the refusals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NoReturn

import msgspec
import numpy as np

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA
from fedlp_edge.core.blueprint import Blueprint, TensorSpec, Unit
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import PeerError, RejectedUpdateError
from fedlp_edge.wire import compression
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitVersion
from fedlp_edge.wire.tensors import FLOAT32, INT8, WIDTH, Array, Blob, TensorInfo, read_header, view, view_any


class RejectionReason(StrEnum):
    """Why an update was refused: the ``reason`` of ``RejectedUpdateError``. Stable, for counting."""

    IDENTITY = "identity"
    RUN = "run"
    ROUND = "round"
    SAMPLES = "samples"
    FIGURES = "figures"
    UNITS = "units"
    SIZE = "size"
    DIGEST = "digest"
    MALFORMED = "malformed"
    NAMES = "names"
    SHAPE = "shape"
    DTYPE = "dtype"
    NOT_FINITE = "not-finite"
    VALUE = "value"
    NORM = "norm"


class AdmissionLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a value may be.

    Attributes:
        max_value: largest magnitude of one element of a change; never above what the sum can hold. Statistics have
            no limit.
        max_norm: largest Euclidean norm of the changes of a whole update; None for no limit.
        norm_ratio: times the cohort's median that the norm of one unit's changes, or of one statistic, may be; 0 for no
            limit.
    """

    max_value: float = MAX_ABS_DELTA
    max_norm: float | None = None
    norm_ratio: Annotated[float, msgspec.Meta(ge=0)] = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.max_value <= MAX_ABS_DELTA:
            raise ValueError(f"max_value must be above 0 and at most {MAX_ABS_DELTA:.0f}")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError("max_norm must be above 0")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one device owes in one round, as the coordinator knows it without asking.

    Attributes:
        device: its id.
        round: number of the round.
        depth: that it was given.
        samples: that it reported; it may have trained on fewer.
        sent: names of the tensors to send, by unit id; units that are pruned are left out.
        encoding: that it was asked for.
    """

    device: str
    round: int
    depth: int
    samples: int
    sent: Mapping[str, tuple[str, ...]]
    encoding: Encoding = "none"


@dataclass(frozen=True, slots=True)
class AdmittedUpdate:
    """An update that may be added to the model.

    Attributes:
        device: who sent it.
        round: which it belongs to.
        weight_samples: training samples that it rests on.
        deltas: by tensor name, the change, or the value of a statistic; float32, finite, within the limits,
            read-only; views of the blob where nothing was encoded.
    """

    device: str
    round: int
    weight_samples: int
    deltas: dict[str, Array]


class Admission:
    """Judges the updates of one run.

    Args:
        run: name of the run.
        blueprint: of its model.
        limits: of the values.
    """

    def __init__(self, run: str, blueprint: Blueprint, limits: AdmissionLimits | None = None) -> None:
        self._run = run
        self._blueprint = blueprint
        self._limits = limits or AdmissionLimits()

    def check_offer(self, offer: Offer, topic_device: str, expected: Expectation) -> None:
        """Judges what a device says of its update, so that no byte of a bad one is fetched.

        Args:
            offer: its words.
            topic_device: the device that the topic names; a broker's access rules vouch for it.
            expected: what it owes.

        Raises:
            RejectedUpdateError: see ``RejectionReason``.
        """
        if not offer.device == topic_device == expected.device:
            _refuse(
                RejectionReason.IDENTITY, f"{topic_device} offers an update of {offer.device}, not of {expected.device}"
            )
        if offer.run != self._run:
            _refuse(RejectionReason.RUN, f"the update is of run {offer.run}, not {self._run}")
        if offer.round != expected.round:
            _refuse(RejectionReason.ROUND, f"the update is of round {offer.round}, not {expected.round}")
        if not 1 <= offer.samples <= expected.samples:
            _refuse(
                RejectionReason.SAMPLES,
                f"{offer.samples} samples are not between 1 and the {expected.samples} reported",
            )
        if not (math.isfinite(offer.loss) and math.isfinite(offer.seconds) and offer.seconds >= 0):
            _refuse(RejectionReason.FIGURES, f"a loss of {offer.loss} or {offer.seconds} seconds cannot be")
        self._check_parts(offer, self._owed(expected), expected.encoding)

    def admit(self, offer: Offer, blob: Blob, expected: Expectation, *, verified: bool = False) -> AdmittedUpdate:
        """Makes an update of the bytes that were offered.

        Args:
            offer: need not have been checked before.
            blob: must not change while the update lives.
            expected: what the device owes.
            verified: the caller has just found the blob to have the digest that was offered, as whoever puts chunks
                together must; hashing is what admission of a large update costs most.

        Raises:
            RejectedUpdateError: see ``RejectionReason``.
        """
        self.check_offer(offer, offer.device, expected)
        whole = memoryview(blob).cast("B")
        if len(whole) != offer.size:
            _refuse(RejectionReason.SIZE, f"{len(whole)} bytes came of {offer.size} offered")
        if not verified and digest_of(whole) != offer.digest:
            _refuse(RejectionReason.DIGEST, "the bytes that came do not have the digest that was offered")
        deltas: dict[str, Array] = {}
        for part, (unit, owed) in zip(offer.units, self._owed(expected), strict=True):
            payload = whole[part.offset : part.offset + part.size]
            _decode(unit, owed, payload, self._limits.max_value, expected.encoding, into=deltas)
        self._check_norm(array for name, array in deltas.items() if name not in self._blueprint.statistics)
        return AdmittedUpdate(expected.device, expected.round, offer.samples, deltas)

    def _owed(self, expected: Expectation) -> list[tuple[Unit, tuple[TensorSpec, ...]]]:
        """Units and tensors to be sent, in the order of the blueprint."""
        owed = []
        for unit in self._blueprint.exchanged_by(expected.depth):
            names = frozenset(expected.sent.get(unit.id, ()))
            if names:
                owed.append((unit, tuple(tensor for tensor in unit.tensors if tensor.name in names)))
        return owed

    def _check_parts(self, offer: Offer, owed: list[tuple[Unit, tuple[TensorSpec, ...]]], encoding: Encoding) -> None:
        """The parts are exactly those owed, of possible sizes, without gap or overlap."""
        sent, due = [part.unit for part in offer.units], [unit.id for unit, _ in owed]
        if sent != due:
            _refuse(RejectionReason.UNITS, f"the update holds {_listed(sent)}; its draw says {_listed(due)}")
        offset = 0
        for part, (unit, tensors) in zip(offer.units, owed, strict=True):
            if part.offset != offset:
                _refuse(RejectionReason.UNITS, f"{unit.id} begins at byte {part.offset}, not {offset}")
            least, most = _size_bounds(tensors, encoding)
            if not least <= part.size <= most:
                _refuse(RejectionReason.SIZE, f"{unit.id} of {part.size} bytes is not between {least} and {most}")
            offset += part.size
        if offer.size != offset:
            _refuse(RejectionReason.SIZE, f"the update has {offer.size} bytes, its parts have {offset}")

    def _check_norm(self, deltas: Iterable[Array]) -> None:
        if self._limits.max_norm is None:
            return
        norm = math.sqrt(sum(_squared_norm(delta) for delta in deltas))
        if norm > self._limits.max_norm:
            _refuse(
                RejectionReason.NORM,
                f"the update's norm of {norm:.4g} is over the limit of {self._limits.max_norm:.4g}",
            )


def admit_part(unit: Unit, tensors: tuple[TensorSpec, ...], blob: Blob, encoding: Encoding) -> dict[str, Array]:
    """The deltas of one unit, as ``Admission.admit`` takes them out of an update.

    Raises:
        RejectedUpdateError: see ``RejectionReason``.
    """
    deltas: dict[str, Array] = {}
    _decode(unit, tensors, blob, MAX_ABS_DELTA, encoding, into=deltas)
    return deltas


def check_values(tensors: Iterable[TensorSpec], deltas: Mapping[str, Array]) -> None:
    """Whether deltas that travel as float32 would be admitted.

    Raises:
        RejectedUpdateError: one is not finite, or too large; or a statistic is not what it can be.
    """
    for spec in tensors:
        _check_values(spec, deltas[spec.name], MAX_ABS_DELTA)


def max_unit_bytes(unit: Unit) -> int:
    """Bytes that no honest version of a unit exceeds: what a device reserves before it has seen any."""
    return _size_bounds(unit.tensors, "none")[1]


def admit_unit(unit: Unit, version: UnitVersion, blob: Blob, *, verified: bool = False) -> dict[str, Array]:
    """A unit's values as a device may load them.

    Args:
        unit: of the device's own copy of the model.
        version: that the coordinator announced.
        blob: must not change while the arrays live.
        verified: the caller has just found the blob to have the version's digest.

    Returns:
        All of the unit's tensors, read-only views of ``blob``.

    Raises:
        PeerError: another unit, size or digest; names, shapes or types that are not the unit's; or a value
            that cannot be.
    """
    if version.unit != unit.id:
        raise PeerError(f"version of {version.unit} given for {unit.id}")
    whole = memoryview(blob).cast("B")
    if len(whole) != version.size or not len(whole) <= max_unit_bytes(unit):
        raise PeerError(f"{unit.id} of {len(whole)} bytes is not the announced {version.size}, or is over its limit")
    if not verified and digest_of(whole) != version.digest:
        raise PeerError(f"{unit.id} does not have the digest that was announced")
    values: dict[str, Array] = {}
    _decode(unit, unit.tensors, whole, math.inf, "none", into=values)
    return values


def _decode(
    unit: Unit,
    expected: tuple[TensorSpec, ...],
    blob: Blob,
    max_value: float,
    encoding: Encoding,
    *,
    into: dict[str, Array],
) -> None:
    """Reads exactly the expected tensors of one unit."""
    try:
        if compression.is_compressed(encoding):
            blob = compression.decompress(blob, _plain_bounds(expected, encoding)[1])
        header, body = read_header(blob, _header_bound(expected))
    except PeerError as error:
        _refuse(RejectionReason.MALFORMED, f"{unit.id}: {error}")
    integers = [spec for spec in expected if spec.name in header and header[spec.name].dtype == INT8]
    scales = TensorSpec(compression.SCALES, (len(integers),), "statistic")
    names = {spec.name for spec in (*expected, *([scales] if integers else []))}
    if header.keys() != names:
        _refuse(RejectionReason.NAMES, f"{unit.id} holds {_listed(sorted(header))}, not {_listed(sorted(names))}")
    for spec in expected:
        _check_type(spec, header[spec.name], compression.dtypes(spec, encoding))
    scale_of: dict[str, np.float32] = {}
    if integers:
        _check_type(scales, header[scales.name], (FLOAT32,))
        values = view(scales.name, header[scales.name], body)
        # What a scale may be is judged by the values that it leads to.
        scale_of = {spec.name: values[index] for index, spec in enumerate(integers)}
    for spec in expected:
        with np.errstate(over="ignore", invalid="ignore"):
            array = compression.widen(view_any(spec.name, header[spec.name], body), scale_of.get(spec.name))
        _check_values(spec, array, max_value)
        into[spec.name] = array


def _check_type(spec: TensorSpec, info: TensorInfo, allowed: tuple[str, ...]) -> None:
    if info.dtype not in allowed:
        _refuse(RejectionReason.DTYPE, f"{spec.name} is {info.dtype[:16]}, not {' or '.join(allowed)}")
    if info.shape != spec.shape:
        _refuse(RejectionReason.SHAPE, f"{spec.name} has shape {list(info.shape)}, not {list(spec.shape)}")
    if info.nbytes != WIDTH[info.dtype] * spec.numel:
        _refuse(RejectionReason.SHAPE, f"{spec.name} has {info.nbytes} bytes, not {WIDTH[info.dtype] * spec.numel}")


def _check_values(spec: TensorSpec, array: Array, max_value: float) -> None:
    """A change must be finite and within the limit; a statistic finite and in its domain, however large it is.

    A constant is as its model made it, infinities (of a mask) included.
    """
    if not array.size or spec.kind == "constant":
        return
    # Minimum and maximum are NaN if any element is, and need no temporary of the array's size.
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        _refuse(RejectionReason.NOT_FINITE, f"{spec.name} holds a value that is not finite")
    if spec.least is not None and low < spec.least:
        _refuse(RejectionReason.VALUE, f"{spec.name} holds {low:.4g}, and cannot be below {spec.least:g}")
    if spec.trainable and max(-low, high) > max_value:
        _refuse(RejectionReason.VALUE, f"{spec.name} holds {max(-low, high):.4g}, over the limit of {max_value:.4g}")


def _squared_norm(array: Array) -> float:
    flat = array.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def _size_bounds(tensors: tuple[TensorSpec, ...], encoding: Encoding) -> tuple[int, int]:
    """Least and most bytes in which these tensors can come."""
    plain = _plain_bounds(tensors, encoding)
    return compression.frame_bounds(plain[1]) if compression.is_compressed(encoding) else plain


def _plain_bounds(tensors: tuple[TensorSpec, ...], encoding: Encoding) -> tuple[int, int]:
    """Least and most bytes of a safetensors file that holds these tensors."""
    least, most = compression.body_bounds(tensors, encoding)
    return least + 8 + 2, most + 8 + _header_bound(tensors)


def _header_bound(tensors: tuple[TensorSpec, ...]) -> int:
    """Bytes that a header of these tensors, and of their scales, cannot need more of, however it is written."""
    # A byte of a name takes six characters at most in JSON, a number 17; the rest are keys and punctuation.
    return 512 + sum(160 + 6 * len(tensor.name.encode()) + 17 * len(tensor.shape) for tensor in tensors)


def _listed(names: list[str]) -> str:
    """A few names for a message, however many a hostile sender invented."""
    shown = ", ".join(name[:80] for name in names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown or "nothing"


def _refuse(reason: RejectionReason, message: str) -> NoReturn:
    raise RejectedUpdateError(str(reason), message)
