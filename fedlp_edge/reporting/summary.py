"""This module defines ``summary.json``, which reports a finished or stopped run to people and programs.

The format is an interface; docs/run-directory.md describes it. Depths are JSON object keys (strings).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.rounds.fitness import State
from fedlp_edge.core.settings import Encoding
from fedlp_edge.core.start_weights import StartWeightsReport
from fedlp_edge.core.targets import default_metric
from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.answer_counts import AnswerCounts
from fedlp_edge.system.files import write_file
from fedlp_edge.worker.jobs import ExportedModel, RefusedModel

TIME_SHARE = 0.01
"""Share of the time that writing the summary of all rounds may take during a run: after 500 rounds of 1,000 devices it
has 170 MB."""


class DeviceRound(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of one device in one round.

    Attributes:
        status: Outcome: ``contributed``, ``lost`` (no update by the deadline), ``rejected`` or ``failed``.
        layers_sent: Ids of the units that were sent.
        loss: Mean training loss of the last epoch; None unless the device contributed.
        seconds: Seconds of training.
        params_down: Parameters sent to the device, counted as in the FedLP paper (without buffers and personal heads),
            cached or not.
        params_up: Parameters that the device sent, counted as ``params_down``.
        bytes_down: Model bytes transferred to the device since the last round that has such a number of it, headers
            and repeats included.
        bytes_up: Update bytes transferred from the device, headers and repeats included.
        payload_down: Bytes of the blobs of the model that the device lacked and got, each once: what ``bytes_down`` is
            without headers, repeats, and what it heard without needing it. A simulation counts this alone, to the same
            byte, and has no other ``bytes_down``.
        payload_up: Bytes of the update that counts, without headers and repeats.
        encoding: Encoding of the update.
        compute: Compute mode of the training (``TrainingSettings.compute``); empty if unknown.
        staleness: Number of model versions made since the device got the one that it trained (buffered rounds).
        reason: Reason of a refusal or failure, as text.
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
    payload_down: int = 0
    payload_up: int = 0
    encoding: Encoding = "none"
    compute: str = ""
    staleness: int = 0
    reason: str = ""


class DeviceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one device in the whole run.

    Attributes:
        contributed: Number of rounds in which an update of the device counts.
        failed: Number of rounds in which the device had a task, and no update of it counts.
        state: State: ``fit``, ``resting`` after a failure, ``set aside`` after several in a row, or ``unfit`` (it
            cannot take part until it changes).
        reason: Reason of the latest failure; empty if the device never failed.
        failed_last: Number of failures in a row at the end of the run.
    """

    id: str
    profile: str
    contributed: int = 0
    failed: int = 0
    state: State = "fit"
    reason: str = ""
    failed_last: int = 0

    @property
    def needs_attention(self) -> bool:
        """Whether people should check the device, since it failed or never contributed."""
        return self.failed > 0 or self.contributed == 0 or self.is_out

    @property
    def is_out(self) -> bool:
        """Whether the run ended without the device: it is unfit or set aside, or failed whenever it was asked.

        So is one that failed several times in a row and never came back. One that failed in some rounds and contributed
        to later ones is none, nor is one that was late in the last round: in a fleet that is an ordinary day.
        """
        gone = self.failed_last >= _GONE_AFTER or (self.failed > 0 and self.contributed == 0)
        return self.state in ("set aside", "unfit") or gone


Purpose = Literal["control", "model", "update", "repeat", "direct", "echo"]


class Traffic(msgspec.Struct, frozen=True):
    """The payload bytes and messages sent and received by the coordinator; a broadcast is counted once.

    Of ``echo`` the bytes are those that the devices say they sent to themselves, and the messages those that said so.
    """

    bytes: int = 0
    messages: int = 0


class RoundSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of one committed round.

    Attributes:
        coverage: Update weight by device id, for each unit id.
        traffic: Traffic since the commit of the round before, by purpose: ``control`` messages both ways, chunks of the
            ``model`` as broadcast, chunks of the ``update`` of every device, and chunks of the model that a device
            requested again (``repeat``), chunks that are never broadcast (``direct``: final models and what of a model
            never changes), and random bytes by which devices measure their links (``echo``).
        answer: What the models of a depth answer with, of which accuracy, loss, metrics, and what devices measured are.
        accuracy: Accuracy of the models on central test data, by depth.
        loss: Mean loss of the models, by depth; None if it is not finite.
        exits: The task's metric for each exit alone, by depth, where models answer with the mean of exits.
        ensemble: The task's metric for the mean of the outputs of the exits up to a depth, by depth; empty for a single
            exit.
        tiers: Mean accuracy of the devices by depth, each with the model of its depth on the test set weighted by the
            device's classes; simulations only, since a real device does not report its classes. Personal heads are
            evaluated after the last round.
        on_devices: What the devices whose updates count have measured on their held-out samples, by depth of the exit;
            of the model that they started from, so that of the round before. Empty if no samples are held out.
        not_reporting: Number of devices whose updates count and that have measured nothing, though samples are to be
            held out.
        warning: Suspicion about an accuracy at chance level, with the cause that was found; empty if there is none.
        virtual_seconds: Duration of the round in virtual time; simulations only.
        metrics: All metrics of the task that the central test data define, by depth and name.
        thresholds: Of an anomaly detector the score below which ``anomaly_quantile`` of the devices' normal held-out
            samples stays, by depth; of the model that they started from, as ``on_devices``.
        published: Bytes of each unit whose blob this round's new model changed, by unit id; simulations only.
    """

    round: int
    seconds: float
    accuracy: dict[int, float]
    devices: tuple[DeviceRound, ...]
    coverage: dict[str, dict[str, int]]
    traffic: dict[Purpose, Traffic] = {}
    answer: AnswerMode = "exit"
    loss: dict[int, float | None] = {}
    exits: dict[int, float] = {}
    ensemble: dict[int, float] = {}
    tiers: dict[int, float] = {}
    on_devices: dict[int, DeviceScores] = {}
    not_reporting: int = 0
    warning: str = ""
    virtual_seconds: float | None = None
    metrics: dict[int, dict[str, float]] = {}
    thresholds: dict[int, float] = {}
    published: dict[str, int] | None = None


class FinalModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that a run ends with: that of its last round, or of its best one.

    Attributes:
        accuracy: Accuracy by depth.
        model_digest: SHA-256 over all tensors.
        round: Number of the round that made it.
        metric: Name of the metric by which the round is the best; empty if the last one was wanted.
        value: Value of the metric.
        enough: Why the run ended before its last round; empty if it did not.
        on_devices: What devices have measured of the final model on their held-out samples, by depth of the exit.
        not_reporting: Number of devices that got a final model and have measured nothing of it.
        metrics: All metrics on central test data, by depth and name; empty without such data.
        answers: How the deepest exit that was judged answered, from which pictures are drawn; None if nothing says so.
    """

    accuracy: dict[int, float]
    model_digest: str
    round: int = 0
    metric: str = ""
    value: float | None = None
    enough: str = ""
    on_devices: dict[int, DeviceScores] = {}
    not_reporting: int = 0
    metrics: dict[int, dict[str, float]] = {}
    answers: AnswerCounts | None = None


class FileProof(msgspec.Struct, frozen=True, kw_only=True):
    """What devices found when they compared an ONNX file with the PyTorch model of the same weights.

    Attributes:
        depth: Depth of the file.
        asked: Number of devices that got the file and were asked to compare it.
        proved: Number of those on which both compute the same.
        samples: Number of their own samples on which these devices compared them.
        max_abs_diff: Largest absolute difference of an output on any of them.
        agreement: Least share of samples with the same answer on any of them.
        problems: Why a device could not prove the file, by device.
    """

    depth: int
    asked: int
    proved: int = 0
    samples: int = 0
    max_abs_diff: float = 0.0
    agreement: float = 1.0
    problems: dict[str, str] = {}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of a whole run; ``final`` is None until the last round is committed.

    Attributes:
        devices: Outcome of each device; empty for a simulated run.
        refused: Depths without an ONNX file, with the reasons.
        handed_over: Whether all devices that the coordinator waited for have their final models.
        delivered: State of the final model by id of each device that has one to fetch: ``installed``, ``received``
            (the device makes its file itself, or has not said how it compares), or the reason of a failure.
        proofs: What devices found about each ONNX file, shallowest first; empty if they were not asked.
        traffic: Traffic after the last round, by purpose.
        start_weights: Report on what was taken of the model's start weights; None if it started from random values.
        task: Name of the task.
        metric: Name of the metric that the run is judged by.
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
    proofs: tuple[FileProof, ...] = ()
    handed_over: bool = False
    traffic: dict[Purpose, Traffic] = {}
    start_weights: StartWeightsReport | None = None
    task: str = "classification"
    metric: str = "accuracy"

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """What a run that is over did not do, each in a few words; empty for one that did everything."""
        depths = [f"depth {entry.depth} has no ONNX file" for entry in self.refused]
        out = [f"{device.id} {_how_it_is_out(device)}" for device in self.devices if device.is_out]
        lacking = [name for name, word in self.delivered.items() if word not in ("installed", "received")]
        return (*depths, *out, *(f"{name} has no final model" for name in lacking))


class DamagedSummaryError(StorageError):
    """A summary is cut short or holds other bytes; the journal has what it is made of."""


_GONE_AFTER = 2


def _how_it_is_out(device: DeviceOutcome) -> str:
    if device.state in ("set aside", "unfit"):
        return f"is {device.state}"
    return f"failed in its last {device.failed_last} rounds" if device.contributed else "failed in all its rounds"


def save(summary: Summary, path: Path) -> None:
    """Writes a summary as JSON, see ``save_encoded``."""
    save_encoded(msgspec.structs.replace(summary, rounds=()), map(msgspec.json.encode, summary.rounds), path)


def save_encoded(summary: Summary, rounds: Iterable[bytes], path: Path) -> None:
    """Writes a summary whose rounds are encoded already: as objects, or all at once, they would take much memory.

    The fields are indented, for people; each round is a line of its own.

    Args:
        summary: Summary without rounds.
        rounds: Rounds, each a ``RoundSummary`` as JSON.
        path: File, which is replaced in one step.
    """
    write_file(path, _lines(summary, rounds), durable=False)


def _lines(summary: Summary, rounds: Iterable[bytes]) -> Iterator[bytes]:
    fields = {name: getattr(summary, name) for name in summary.__struct_fields__ if name != "rounds"}
    indented = msgspec.json.format(msgspec.json.encode(fields), indent=2)
    yield indented.removesuffix(b"\n}") + b',\n  "rounds": ['
    separator = b"\n    "
    for entry in rounds:
        yield separator + entry
        separator = b",\n    "
    yield b"\n  ]\n}\n" if separator.startswith(b",") else b"]\n}\n"


def load(path: Path) -> Summary:
    """Reads a summary.

    Raises:
        StorageError: The file is missing, or not a summary of this version.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.ValidationError as error:
        raise StorageError(f"{path}: not a summary of this version: {error}") from None
    except msgspec.DecodeError:
        raise DamagedSummaryError(
            f"{path} is damaged, or only a part of it was copied: copy it again, or remove it; who made the run writes "
            "it anew when the same command is started again"
        ) from None


def load_if_there(path: Path) -> Summary | None:
    """Reads a summary that is made anew in any case; None if there is none, or a power cut left a part of it.

    Raises:
        StorageError: The file cannot be read, or is not a summary of this version.
    """
    with suppress(DamagedSummaryError):
        return load(path) if path.exists() else None
    return None


def values_of(
    metric: str, metrics: Mapping[int, Mapping[str, float]], accuracy: Mapping[int, float]
) -> dict[int, float]:
    """Returns the values of one metric on central test data, by depth; empty if it was not measured.

    Args:
        metric: Name of the metric.
        metrics: All metrics by depth and name; empty in runs of an earlier version.
        accuracy: Accuracy by depth.
    """
    found = {depth: by_name[metric] for depth, by_name in metrics.items() if metric in by_name}
    return found or (dict(accuracy) if metric == "accuracy" else {})


def answered_with(entry: RoundSummary, answer: AnswerMode, task: str) -> RoundSummary:
    """Returns what a round says of models that answer with something else, as rounds do that were judged before the
    settings changed, or by an earlier version: the task's own metric, and nothing that devices measured.

    Args:
        entry: The round.
        answer: What the models answer with.
        task: Name of the task.
    """
    if entry.answer == answer:
        return entry
    metric, values = default_metric(task), entry.ensemble if answer == "mean" else entry.exits
    return msgspec.structs.replace(
        entry,
        answer=answer,
        accuracy=values if metric == "accuracy" else {},
        metrics={depth: {metric: value} for depth, value in values.items()},
        loss={},
        exits={},
        on_devices={},
    )


def trained_exits(summary: Summary) -> set[int]:
    """Returns the depths whose exit head at least one device trained in at least one round."""
    return {depth for entry in summary.rounds for depth in exits_trained_in(entry)}


def exits_trained_in(entry: RoundSummary) -> set[int]:
    """Returns the depths whose exit head at least one device trained in a round."""
    return {int(unit.removeprefix("H")) for unit, weights in entry.coverage.items() if unit[0] == "H" and weights}


def idle_rounds(summary: Summary) -> dict[str, int]:
    """Returns the number of rounds in which no device sent a unit, by unit id, without units sent in every round."""
    idle: dict[str, int] = {}
    for entry in summary.rounds:
        for unit, weights in entry.coverage.items():
            if not weights:
                idle[unit] = idle.get(unit, 0) + 1
    return idle
