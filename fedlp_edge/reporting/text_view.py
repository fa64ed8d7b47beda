"""This module writes events as single lines of plain text, for logs and pipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.reporting.events import (
    AllDevicesUnfit,
    AnyEvent,
    BrokerDisconnected,
    BrokerReconnected,
    DeviceFailed,
    DeviceJoined,
    DeviceLeft,
    DeviceSetAside,
    DeviceUnfit,
    Event,
    ModelDelivered,
    ModelExported,
    ModelRefused,
    ModelsProved,
    RoundFailed,
    RoundFinished,
    RunFinished,
    RunStarted,
    RunStopped,
    UpdateRejected,
    WaitingForBroker,
    WaitingForDevices,
    WorkerReplaced,
)
from fedlp_edge.reporting.formatting import format_bytes, format_scores, format_seconds, format_share, format_values
from fedlp_edge.reporting.progress import RunProgress, where_stopped, where_to_go_on
from fedlp_edge.reporting.summary import values_of
from fedlp_edge.system.printable import counted

MAX_NAMED_DEVICES = 8
"""Number of devices that a line names before it counts the rest."""


def line_for(event: AnyEvent, progress: RunProgress) -> str | None:
    """Returns the event's line; None for events without one.

    Args:
        event: Event.
        progress: State of the run after the event.
    """
    if isinstance(event, RoundFinished):
        return _round_line(event, progress)
    if isinstance(event, ModelExported):
        return _exported_line(event, central=bool(progress.values))
    if isinstance(event, RunFinished):
        return _finished_line(event, progress.metric)
    if isinstance(event, RunStopped):
        return _stopped_line(event, progress)
    if isinstance(event, ModelsProved):
        return _proved_line(event, progress.metric)
    return _line(event)


@singledispatch
def _line(_event: Event) -> str | None:
    return None


@_line.register
def _(event: RunStarted) -> str:
    begin = f"goes on {where_to_go_on(event)}" if event.resumed_at is not None else "starts"
    return (
        f"run {event.run} {begin}: {event.model}, {event.parameters:,} parameters, "
        f"{event.depths} depths, {event.rounds} rounds"
        + ("; models answer with the mean of their exits" if event.answer == "mean" else "")
        + (f"; {event.start_weights}" if event.start_weights else "")
        + (f"; {event.remark}" if event.remark else "")
    )


@_line.register
def _(event: DeviceJoined) -> str:
    samples = counted(event.samples, "sample")
    return f"device {event.device} ({event.profile}), {samples}: {event.explanation}"


@_line.register
def _(event: DeviceLeft) -> str:
    return f"device {event.device} left"


@_line.register
def _(event: DeviceUnfit) -> str:
    return f"device {event.device} cannot take part: {event.explanation}"


@_line.register
def _(event: DeviceSetAside) -> str:
    return (
        f"device {event.device} is set aside after {event.failures} failures in a row, "
        f"until round {event.again}: {event.reason}"
    )


@_line.register
def _(event: AllDevicesUnfit) -> str:
    return f"{event.explanation}; the run ends in {format_seconds(event.seconds)} unless that changes"


@_line.register
def _(event: UpdateRejected) -> str:
    return f"round {event.round}: update of {event.device} refused ({event.code}): {event.reason}"


@_line.register
def _(event: DeviceFailed) -> str:
    where = "" if event.round is None else f"round {event.round}: "
    return f"{where}device {event.device} failed: {event.reason}"


@_line.register
def _(event: WorkerReplaced) -> str:
    return event.reason


@_line.register
def _(event: RoundFailed) -> str:
    return f"round {event.round} asks again: {counted(event.contributors, 'update')} so far, {event.quorum} needed"


@_line.register
def _(event: WaitingForDevices) -> str:
    return event.words


@_line.register
def _(event: WaitingForBroker) -> str:
    return f"waiting for the broker at {event.url}; the log says why it is not there"


@_line.register
def _(event: BrokerDisconnected) -> str:
    return f"broker lost: {event.reason}"


@_line.register
def _(_event: BrokerReconnected) -> str:
    return "broker is back"


def _exported_line(event: ModelExported, *, central: bool) -> str:
    on = "on test data" if central else "on made inputs"
    if event.accuracy is not None:
        on = f"accuracy {format_share(event.accuracy)} in onnxruntime"
    return f"exported {event.file}: {on}, differs from PyTorch by at most {event.max_abs_diff:.1e}"


@_line.register
def _(event: ModelRefused) -> str:
    return f"depth {event.depth} has no ONNX file: {event.reason}"


@_line.register
def _(event: ModelDelivered) -> str | None:
    return None if event.received else f"device {event.device} has no final model: {event.reason}"


def _proved_line(event: ModelsProved, metric: str) -> str:
    files = [
        f"depth {proof.depth} on {proof.proved} of {counted(proof.asked, 'device')}, differing by at most "
        f"{proof.max_abs_diff:.1e}"
        for proof in event.proofs
    ]
    judged = f"; on devices {scores_line(event.on_devices, metric)}" if event.on_devices else ""
    return f"ONNX files proved: {'; '.join(files)}{judged}"


def _finished_line(event: RunFinished, metric: str) -> str:
    of = f" of round {event.best}, the best one" if event.best is not None else ""
    why = f"; no more rounds: {event.enough}" if event.enough else ""
    values = values_of(metric, event.metrics, event.accuracy)
    worth = f": the model{of}" if of else ""
    worth += f"{',' if of else ':'} {format_values(metric, values)}" if values else ""
    return f"run finished after {event.rounds} rounds{worth}{why}"


def _stopped_line(event: RunStopped, progress: RunProgress) -> str:
    where = where_stopped(event, progress)
    if event.reason == "error":
        return f"run stopped {where}: {event.detail}; once that is mended, the same command goes on"
    return f"run stopped {where}; the same command goes on from there"


def _round_line(event: RoundFinished, progress: RunProgress) -> str:
    values = values_of(progress.metric, event.metrics, event.accuracy)
    on_devices = f"on devices, before it, {scores_line(event.on_devices, progress.metric)}"
    devices = counted(event.contributors, "device")
    parts = [
        f"round {event.round}/{progress.rounds}: {format_seconds(event.seconds)}, {devices}",
        *([format_values(progress.metric, values)] if values else []),
        *([on_devices] if event.on_devices else []),
        *([f"{event.not_reporting} not reporting"] if event.not_reporting else []),
        f"{format_bytes(event.bytes_down)} down, {format_bytes(event.bytes_up)} up",
    ]
    if event.lost:
        parts.append(f"nothing in time from {listed(event.lost)}")
    if event.warning:
        parts.append(event.warning)
    return "; ".join(parts)


def listed(names: Sequence[str]) -> str:
    """Returns the first names, and the number of the others."""
    more = f" and {len(names) - MAX_NAMED_DEVICES} more" if len(names) > MAX_NAMED_DEVICES else ""
    return ", ".join(names[:MAX_NAMED_DEVICES]) + more


def scores_line(on_devices: Mapping[int, DeviceScores], metric: str) -> str:
    """Formats what devices measured as ``depth 1: 80.2 % ± 3.0 % (worst tenth 71.0 %)``."""
    return ", ".join(f"depth {depth}: {format_scores(scores, metric)}" for depth, scores in sorted(on_devices.items()))
