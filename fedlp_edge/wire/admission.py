"""This module is the one place where bytes from the network become trusted tensors.

It is pure, so the security of a fleet can be reviewed here. Cheap checks come first: device, round and size are
checked in the offer, before any byte of the update is requested; then the digest; then the headers, whose size is
bounded; then the values. An update that passes can be added to the model without further checks: the exactness of the
fixed-point sum relies on the limit of a value. docs/security.md lists the refusals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA
from fedlp_edge.core.algorithm.plausibility import squared_norm
from fedlp_edge.core.algorithm.scaled_integers import ScaledIntegers, Values, widened
from fedlp_edge.core.blueprint import Blueprint, TensorSpec, Unit
from fedlp_edge.core.device_scores import HeldOutScores, problem_of
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import PeerError, RejectedUpdateError
from fedlp_edge.wire import compression
from fedlp_edge.wire.broadcast_encoding import EncodedWeights
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitVersion
from fedlp_edge.wire.packed_scores import PackedScores, unpacked_scores
from fedlp_edge.wire.tensors import FLOAT32, WIDTH, Array, Blob, TensorInfo, read_header, view, view_any

_REMEMBERED_BOUNDS = 1024
"""Lists of tensors whose bounds are remembered: each update asks for those of every unit, several times."""


class RejectionReason(StrEnum):
    """The reasons for which an update is refused (``RejectedUpdateError.reason``); stable, so they can be counted."""

    IDENTITY = "identity"
    RUN = "run"
    ROUND = "round"
    SAMPLES = "samples"
    FIGURES = "figures"
    SCORES = "scores"
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
    """Limits of the values in an update.

    Attributes:
        max_value: Largest magnitude of one element of a delta, at most what the sum can hold. Statistics have no limit.
        max_norm: Largest Euclidean norm of all deltas of an update; None for no limit.
        norm_ratio: Largest ratio of the norm of one unit's delta, or of one statistic, to the cohort's median norm; 0
            for no limit.
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
    """The update that the coordinator expects from one device in one round.

    Attributes:
        device: Id of the device.
        round: Number of the round.
        depth: Depth of the device's submodel.
        samples: Number of samples that the device reported; it may have trained on fewer.
        sent: Names of the tensors to send, by unit id; units that are pruned are left out.
        encoding: Encoding that the task asks for.
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
        device: Id of the device that sent the update.
        round: Number of the round.
        weight_samples: Number of training samples behind the update.
        values: Deltas, or values of statistics, by tensor name; finite, within the limits, read-only; views of the
            blob, unless it was compressed or several integers share a byte.
    """

    device: str
    round: int
    weight_samples: int
    values: dict[str, Values]

    @property
    def deltas(self) -> dict[str, Array]:
        """The values as float32."""
        return {name: widened(values) for name, values in self.values.items()}


class Admission:
    """The checks of the updates of one run.

    Args:
        run: Name of the run.
        blueprint: Blueprint of the run's model.
        limits: Limits of the values; the defaults of ``AdmissionLimits`` if None.
        task: Name of the task that the model learns.
    """

    def __init__(
        self, run: str, blueprint: Blueprint, limits: AdmissionLimits | None = None, task: str = "classification"
    ) -> None:
        self._run = run
        self._blueprint = blueprint
        self._limits = limits or AdmissionLimits()
        self._task = task

    def check_offer(self, offer: Offer, topic_device: str, expected: Expectation) -> None:
        """Checks an offer, so that no byte of an inadmissible update is requested.

        Args:
            offer: Offer of the device.
            topic_device: Device that the topic names, which a broker's access rules guarantee.
            expected: Update that the coordinator expects.

        Raises:
            RejectedUpdateError: The offer is refused, for a ``RejectionReason``.
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
        try:
            admit_scores(offer.scores, self._task, exits_of(self._blueprint, expected.depth), expected.samples)
        except PeerError as error:
            _refuse(RejectionReason.SCORES, str(error))
        self._check_parts(offer, self._owed(expected), expected.encoding)

    def admit(self, offer: Offer, blob: Blob, expected: Expectation, *, verified: bool = False) -> AdmittedUpdate:
        """Checks the bytes of an offered update and decodes them.

        Args:
            offer: Offer of the device, checked or not.
            blob: Bytes of the update, which must not change while the result is in use.
            expected: Update that the coordinator expects.
            verified: Whether the caller has just verified the blob's digest, as the assembly of chunks does; hashing
                is the most expensive step of admitting a large update.

        Raises:
            RejectedUpdateError: The update is refused, for a ``RejectionReason``.
        """
        self.check_offer(offer, offer.device, expected)
        whole = memoryview(blob).cast("B")
        if len(whole) != offer.size:
            _refuse(RejectionReason.SIZE, f"{len(whole)} bytes came of {offer.size} offered")
        if not verified and digest_of(whole) != offer.digest:
            _refuse(RejectionReason.DIGEST, "the bytes that came do not have the digest that was offered")
        values: dict[str, Values] = {}
        for part, (unit, owed) in zip(offer.units, self._owed(expected), strict=True):
            payload = whole[part.offset : part.offset + part.size]
            _decode(unit, owed, payload, self._limits.max_value, expected.encoding, into=values)
        self._check_norm(delta for name, delta in values.items() if name not in self._blueprint.statistics)
        return AdmittedUpdate(expected.device, expected.round, offer.samples, values)

    def _owed(self, expected: Expectation) -> list[tuple[Unit, tuple[TensorSpec, ...]]]:
        """Returns the units and tensors to be sent, in the order of the blueprint."""
        owed = []
        for unit in self._blueprint.exchanged_by(expected.depth):
            names = frozenset(expected.sent.get(unit.id, ()))
            if names:
                owed.append((unit, tuple(tensor for tensor in unit.tensors if tensor.name in names)))
        return owed

    def _check_parts(self, offer: Offer, owed: list[tuple[Unit, tuple[TensorSpec, ...]]], encoding: Encoding) -> None:
        """Checks that the parts are exactly the expected units, of possible sizes, without gap or overlap."""
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

    def _check_norm(self, deltas: Iterable[Values]) -> None:
        if self._limits.max_norm is None:
            return
        norm = math.sqrt(sum(squared_norm(delta) for delta in deltas))
        if norm > self._limits.max_norm:
            _refuse(
                RejectionReason.NORM,
                f"the update's norm of {norm:.4g} is over the limit of {self._limits.max_norm:.4g}",
            )


def admit_scores(
    scores: Mapping[int, PackedScores], task: str, exits: Collection[int], most_samples: int
) -> dict[int, HeldOutScores]:
    """Unpacks and checks what a device has measured on its held-out samples.

    Args:
        scores: Scores as they came, by depth of the exit.
        task: Name of the task that the model learns.
        exits: Depths of the exits that the device can have judged.
        most_samples: Number of samples that the device reported.

    Raises:
        PeerError: No samples of the device can have such scores.
    """
    if unknown := sorted(set(scores).difference(exits)):
        raise PeerError(f"the device has judged the exit of depth {unknown[0]}, which it does not hold")
    unpacked = unpacked_scores(scores)
    for of_exit in unpacked.values():
        if problem := problem_of(task, of_exit, most_samples):
            raise PeerError(problem)
    return unpacked


def exits_of(blueprint: Blueprint, depth: int) -> frozenset[int]:
    """Returns the depths of the exits that a device of a depth holds."""
    return frozenset(unit.depth for unit in blueprint.held_by(depth) if unit.kind == "head")


def admit_part(unit: Unit, tensors: tuple[TensorSpec, ...], blob: Blob, encoding: Encoding) -> dict[str, Array]:
    """Decodes and checks the deltas of one unit, as ``Admission.admit`` does for each unit of an update.

    Raises:
        RejectedUpdateError: The deltas are refused, for a ``RejectionReason``.
    """
    values: dict[str, Values] = {}
    _decode(unit, tensors, blob, MAX_ABS_DELTA, encoding, into=values)
    return {name: widened(of_tensor) for name, of_tensor in values.items()}


def check_values(tensors: Iterable[TensorSpec], deltas: Mapping[str, Array]) -> None:
    """Checks that deltas encoded as float32 would be admitted.

    Raises:
        RejectedUpdateError: A delta is not finite or too large, or a statistic is outside its domain.
    """
    for spec in tensors:
        _check_values(spec, deltas[spec.name], MAX_ABS_DELTA)


def max_unit_bytes(unit: Unit) -> int:
    """Returns the largest possible bytes of a unit, which a device reserves before it has received any version."""
    # Encoded weights have one more entry in the header for each tensor, and a frame may be longer than its content.
    return compression.frame_bounds(_size_bounds(unit.tensors, "none")[1] + _header_bound(unit.tensors))[1]


def admit_unit(unit: Unit, version: UnitVersion, blob: Blob, *, verified: bool = False) -> EncodedWeights:
    """Checks the values of a unit that a device has downloaded, of integers without decoding them.

    Args:
        unit: Unit of the device's own blueprint.
        version: Version that the coordinator announced.
        blob: Bytes of the unit, which must not change while the result is in use.
        verified: Whether the caller has just verified the blob's digest.

    Returns:
        The unit's weights, in the bytes of ``blob``.

    Raises:
        PeerError: Unit, size or digest differ from the version; names, shapes or types differ from the unit; or a
            value is impossible.
    """
    if version.unit != unit.id:
        raise PeerError(f"version of {version.unit} given for {unit.id}")
    whole = memoryview(blob).cast("B")
    if len(whole) != version.size or not len(whole) <= max_unit_bytes(unit):
        raise PeerError(f"{unit.id} of {len(whole)} bytes is not the announced {version.size}, or is over its limit")
    if not verified and digest_of(whole) != version.digest:
        raise PeerError(f"{unit.id} does not have the digest that was announced")
    try:
        weights = EncodedWeights(unit.tensors, whole, version.encoding)
    except PeerError as error:
        raise PeerError(f"{unit.id}: {error}") from None
    for spec in unit.tensors:
        if spec.kind != "constant":
            _check_bounds(spec, *weights.bounds(spec), math.inf)
    return weights


def _decode(
    unit: Unit,
    expected: tuple[TensorSpec, ...],
    blob: Blob,
    max_value: float,
    encoding: Encoding,
    *,
    into: dict[str, Values],
) -> None:
    """Decodes exactly the expected tensors of one unit."""
    try:
        if compression.is_compressed(encoding):
            blob = compression.decompress(blob, _plain_bounds(expected, encoding)[1])
        header, body = read_header(blob, _header_bound(expected))
    except PeerError as error:
        _refuse(RejectionReason.MALFORMED, f"{unit.id}: {error}")
    integer_type = compression.integer_type(encoding)
    integers = [spec for spec in expected if spec.name in header and header[spec.name].dtype == integer_type]
    scales = TensorSpec(compression.SCALES, (len(integers),), "statistic")
    names = {spec.name for spec in (*expected, *([scales] if integers else []))}
    if header.keys() != names:
        _refuse(RejectionReason.NAMES, f"{unit.id} holds {_listed(sorted(header))}, not {_listed(sorted(names))}")
    for spec in expected:
        info, allowed = header[spec.name], compression.dtypes(spec, encoding)
        shape = compression.stored_shape(spec, info.dtype, encoding) if info.dtype in allowed else spec.shape
        _check_type(spec, info, allowed, shape)
    scale_of: dict[str, np.float32] = {}
    if integers:
        _check_type(scales, header[scales.name], (FLOAT32,), scales.shape)
        values = view(scales.name, header[scales.name], body)
        # A scale is not checked itself; the values that it leads to are.
        scale_of = {spec.name: values[index] for index, spec in enumerate(integers)}
    for spec in expected:
        with np.errstate(over="ignore", invalid="ignore"):
            stored = compression.unpacked(view_any(spec.name, header[spec.name], body), spec, encoding)
            scale = scale_of.get(spec.name)
            # Integers of one scale are in the order of the values that they lead to, and far quicker to go through.
            _check_values(spec, stored, max_value, 1.0 if scale is None else scale)
            into[spec.name] = compression.widen(stored) if scale is None else ScaledIntegers(stored, scale)


def _check_type(spec: TensorSpec, info: TensorInfo, allowed: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if info.dtype not in allowed:
        _refuse(RejectionReason.DTYPE, f"{spec.name} is {info.dtype[:16]}, not {' or '.join(allowed)}")
    if info.shape != shape:
        _refuse(RejectionReason.SHAPE, f"{spec.name} has shape {list(info.shape)}, not {list(shape)}")
    nbytes = WIDTH[info.dtype] * math.prod(shape)
    if info.nbytes != nbytes:
        _refuse(RejectionReason.SHAPE, f"{spec.name} has {info.nbytes} bytes, not {nbytes}")


def _check_values(spec: TensorSpec, array: npt.NDArray[Any], max_value: float, scale: float | np.float32 = 1.0) -> None:
    """Checks that a delta is finite and within the limit, and that a statistic is finite and in its domain.

    What is checked is ``array`` times ``scale``.

    Constants are not checked, since a model may hold infinities in them (in an attention mask).
    """
    if not array.size or spec.kind == "constant":
        return
    # Minimum and maximum are NaN if any element is NaN, and need no temporary array.
    ends = np.array([array.min(), array.max()], dtype=np.float32) * np.float32(scale)
    _check_bounds(spec, float(ends.min()), float(ends.max()), max_value)


def _check_bounds(spec: TensorSpec, low: float, high: float, max_value: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        _refuse(RejectionReason.NOT_FINITE, f"{spec.name} holds a value that is not finite")
    if spec.least is not None and low < spec.least:
        _refuse(RejectionReason.VALUE, f"{spec.name} holds {low:.4g}, and cannot be below {spec.least:g}")
    if spec.trainable and max(-low, high) > max_value:
        _refuse(RejectionReason.VALUE, f"{spec.name} holds {max(-low, high):.4g}, over the limit of {max_value:.4g}")


@lru_cache(maxsize=_REMEMBERED_BOUNDS)
def _size_bounds(tensors: tuple[TensorSpec, ...], encoding: Encoding) -> tuple[int, int]:
    """Returns the smallest and largest bytes that these tensors can take in this encoding."""
    plain = _plain_bounds(tensors, encoding)
    return compression.frame_bounds(plain[1]) if compression.is_compressed(encoding) else plain


def _plain_bounds(tensors: tuple[TensorSpec, ...], encoding: Encoding) -> tuple[int, int]:
    """Returns the smallest and largest bytes of an uncompressed safetensors file that holds these tensors."""
    least, most = compression.body_bounds(tensors, encoding)
    return least + 8 + 2, most + 8 + _header_bound(tensors)


@lru_cache(maxsize=_REMEMBERED_BOUNDS)
def _header_bound(tensors: tuple[TensorSpec, ...]) -> int:
    """Returns an upper bound of the bytes of a safetensors header of these tensors and their scales."""
    # A byte of a name takes six characters at most in JSON, a number 17; the rest are keys and punctuation.
    return 512 + sum(160 + 6 * len(tensor.name.encode()) + 17 * len(tensor.shape) for tensor in tensors)


def _listed(names: list[str]) -> str:
    """Returns at most six names for a message, since a hostile sender may have invented many."""
    shown = ", ".join(name[:80] for name in names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown or "nothing"


def _refuse(reason: RejectionReason, message: str) -> NoReturn:
    raise RejectedUpdateError(str(reason), message)
