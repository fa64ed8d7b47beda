"""``summary.json``: what a finished (or stopped) run reports, for people and programs.

The format is an interface; docs/run-directory.md describes it. Depths are JSON object keys (strings).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from fedlp_edge.core.rounds.fitness import State
from fedlp_edge.core.settings import Encoding
from fedlp_edge.errors import StorageError
from fedlp_edge.system.files import write_file
from fedlp_edge.worker.jobs import ExportedModel, RefusedModel


class DeviceRound(msgspec.Struct, frozen=True, kw_only=True):
    """One device's part in one round.

    Attributes:
        status: ``contributed``, ``lost`` (nothing by the deadline), ``rejected`` or ``failed``.
        layers_sent: unit ids that were not pruned.
        loss: mean training loss of the last epoch; None unless it contributed.
        seconds: of training.
        params_down: parameters sent to it as the paper counts (buffers, personal heads left out), cached or not.
        params_up: likewise, what it returned.
        bytes_down: model bytes on the wire to it, headers and repeats included.
        bytes_up: update bytes on the wire from it.
        encoding: of the numbers in its update.
        compute: mode that its update was computed in (``TrainingSettings.compute``); empty if unknown.
        staleness: versions of the model made since the device got the one that it trained (buffered mode).
        reason: why it was refused or failed, in words.
    """

    id: str
    profile: str
    depth: int
    lpr: float
    status: Literal["contributed", "lost", "rejected", "failed"]
    layers_sent: tuple[str, ...] = ()
    samples: int = 0
    loss: float | None = None
    seconds: float = 0.0
    params_down: int = 0
    params_up: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    encoding: Encoding = "none"
    compute: str = ""
    staleness: int = 0
    reason: str = ""


class DeviceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one device in the run.

    Attributes:
        contributed: rounds that count an update of it.
        failed: rounds that gave it a task and count none.
        state: ``fit``, ``resting`` after a failure, ``set aside`` after several in a row, or ``unfit``: it cannot take
            part until it changes.
        reason: of its latest failure; empty if it never failed.
    """

    id: str
    profile: str
    contributed: int = 0
    failed: int = 0
    state: State = "fit"
    reason: str = ""

    @property
    def in_trouble(self) -> bool:
        """Whether people should look after it: it failed, or never had a part in the model."""
        return self.failed > 0 or self.contributed == 0 or self.state in ("set aside", "unfit")


Purpose = Literal["control", "model", "update", "repeat"]


class Traffic(msgspec.Struct, frozen=True):
    """Payloads at the coordinator, sent and received; what a broker multiplies is counted once."""

    bytes: int = 0
    messages: int = 0


class RoundSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One committed round.

    Attributes:
        coverage: the ledger: weight by device, per unit.
        traffic: since the commit of the round before, by purpose: ``control`` messages both ways, chunks of the
            ``model`` as broadcast, chunks of the ``update`` of every device, and chunks of the model that a device
            asked for again (``repeat``).
        loss: mean cross-entropy of each exit, by depth; None where it is no finite number.
        ensemble: accuracy of the mean of the logits of the exits up to a depth.
        tiers: mean accuracy of the devices of a depth, each with the exit of its depth on the test set weighted by
            the device's own classes; simulations only, since a real device keeps its classes to itself. With personal
            heads each device is judged with its own, after the last round.
        doubt: what is suspicious about an accuracy at chance, with the cause that was found; empty if nothing is.
        virtual_seconds: that the round would have taken the devices of their profiles; simulations only.
    """

    round: int
    seconds: float
    accuracy: dict[int, float]
    devices: tuple[DeviceRound, ...]
    coverage: dict[str, dict[str, int]]
    traffic: dict[Purpose, Traffic] = {}
    loss: dict[int, float | None] = {}
    ensemble: dict[int, float] = {}
    tiers: dict[int, float] = {}
    doubt: str = ""
    virtual_seconds: float | None = None


class FinalModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model after the last round: accuracy by depth, and a SHA-256 over all its tensors."""

    accuracy: dict[int, float]
    model_digest: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; ``final`` is None until the last round is committed.

    Attributes:
        devices: what became of each; empty for a simulated run.
        refused: depths without an ONNX file, and why.
        handed_over: whether all devices that could be waited for have their final models.
        delivered: what became of the final model of each device that was told of one: ``installed``, ``received`` (it
            makes its file itself), or why it has none.
        traffic: after the last round: the final models, and goodbyes.
    """

    run: str
    fleet: str
    model: str
    rounds: tuple[RoundSummary, ...]
    devices: tuple[DeviceOutcome, ...] = ()
    final: FinalModel | None = None
    onnx: tuple[ExportedModel, ...] = ()
    refused: tuple[RefusedModel, ...] = ()
    delivered: dict[str, str] = {}
    handed_over: bool = False
    traffic: dict[Purpose, Traffic] = {}


def save(summary: Summary, path: Path) -> None:
    """Writes it, indented, replacing the old file in one step."""
    save_encoded(msgspec.structs.replace(summary, rounds=()), map(msgspec.json.encode, summary.rounds), path)


def save_encoded(summary: Summary, rounds: Iterable[bytes], path: Path) -> None:
    """Writes a summary whose rounds are encoded already: a large fleet's take much more memory as objects.

    Args:
        summary: without rounds.
        rounds: each a ``RoundSummary`` as JSON.
        path: replaced in one step.
    """
    fields: dict[str, object] = {name: getattr(summary, name) for name in summary.__struct_fields__}
    whole = msgspec.json.encode(fields | {"rounds": [msgspec.Raw(entry) for entry in rounds]})
    write_file(path, [msgspec.json.format(whole, indent=2)], durable=False)


def load(path: Path) -> Summary:
    """Reads one.

    Raises:
        StorageError: it is missing, or not a summary of this version.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise StorageError(f"{path}: not a summary of this version: {error}") from None


def trained_exits(summary: Summary) -> set[int]:
    """Depths whose exit head at least one device trained in at least one round."""
    return {
        int(unit.removeprefix("H"))
        for entry in summary.rounds
        for unit, weights in entry.coverage.items()
        if unit.startswith("H") and weights
    }


def idle_rounds(summary: Summary) -> dict[str, int]:
    """Rounds in which nobody sent a unit, by unit; units that somebody sent in every round are left out."""
    idle: dict[str, int] = {}
    for entry in summary.rounds:
        for unit, weights in entry.coverage.items():
            if not weights:
                idle[unit] = idle.get(unit, 0) + 1
    return idle
