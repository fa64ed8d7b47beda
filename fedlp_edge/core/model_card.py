"""This module describes a directory of exported models as data: what each file is, what it is worth, and what it costs.

``fedlp export`` writes the description as ``card.json``. Whoever signs, hands out or chooses among the files reads it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.errors import ExportError

CARD_FILE = "card.json"
"""Name of the description in a directory of exported models."""

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,200}\.onnx\Z")]
WeightsName = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]{1,200}\.onnx\.data)?\Z")]
SelfTestName = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]{1,200}\.selftest\.npz)?\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class MeasuredCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer of a model costs on one machine, for one sample at a time.

    Attributes:
        milliseconds: Time of an answer by percentile (50, 90, 99).
        mean_milliseconds: Mean time of an answer, which is what counts for a file with early exits.
        memory: Bytes that the measuring process grew by, with the model loaded and run.
        exits: Share of the samples that were answered at each depth; empty for a file with one exit.
    """

    milliseconds: dict[int, float]
    mean_milliseconds: float
    memory: Count
    exits: dict[int, float] = {}


class CardEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One exported file.

    Attributes:
        file: Name of the file in the directory of the card.
        weights_file: Name of the file beside it that holds its weights, whose digest stands in the file; empty if the
            file holds them itself.
        depth: Depth of the model; of a file with early exits, its deepest one.
        exits: Depths at which a file with early exits may stop, shallowest first; empty for a file with one exit.
        threshold: Confidence, 0 to 1, from which on a file with early exits stops; None for a file with one exit.
        precision: How the numbers of the file are stored.
        sha256: SHA-256 of the file, as hexadecimal digits.
        blake3: BLAKE3 of the file, as hexadecimal digits, by which devices download it.
        bytes: Size of the file, its file of weights included.
        value: What the file is worth on the samples of the card, by the metric of the card, measured in onnxruntime;
            None without labelled samples.
        max_abs_diff: Largest absolute difference of an output from that of the PyTorch model.
        agreement: Share of the compared samples, 0 to 1, to which the file gives the answer of the PyTorch model.
        cost: What an answer costs; None if it was not measured.
        warning: Why another file may be the better choice, in one line; empty if nothing speaks against this one.
        self_test: Name of the file with some samples and the answers that the file must give; empty for none.
    """

    file: FileName
    weights_file: WeightsName = ""
    depth: Annotated[int, msgspec.Meta(ge=1)]
    exits: tuple[int, ...] = ()
    threshold: float | None = None
    precision: Literal["fp32", "fp16", "int8"]
    sha256: Digest
    blake3: Digest
    bytes: Count
    value: float | None = None
    max_abs_diff: float
    agreement: float
    cost: MeasuredCost | None = None
    warning: str = ""
    self_test: SelfTestName = ""


class RefusedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was asked for and was not made.

    Attributes:
        depth: Depth of the model.
        precision: Precision of the file.
        early_exit: Whether it was the file with early exits.
        reason: Why there is no file, in one line.
    """

    depth: int
    precision: Literal["fp32", "fp16", "int8"]
    early_exit: bool = False
    reason: str


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """All files that were exported from one global model.

    Attributes:
        format: Version of this structure.
        model: Specification from which the model was built.
        task: Task of the model.
        classes: Names of the classes, labels or targets by number.
        input_shape: Shape of one sample.
        input_type: Type of the values that the graphs take: ``uint8`` for pictures as they are, normalised in the
            graph; ``float32`` for samples that are normalised before.
        features: Names of the columns of a table, which are the channels of a sample; empty for other samples.
        scale: Factor from stored values to the unit of ``mean`` and ``std``; a model's input is
            ``(value * scale - mean) / std``.
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        license: Licence of the weights, as an SPDX expression or in words; empty if it was not told.
        fleet: Name of the fleet.
        run: Name of the run.
        round: Round that the model is of.
        model_digest: Digest of the global model, as in ``summary.json``.
        metric: Name of the metric of each file's value; empty if there is none.
        samples: Number of held-out samples on which the files were measured; 0 for made inputs.
        calibration: Where the samples for the ranges of int8 files are from, in words; empty without such files.
        opset: ONNX opset of the files.
        processor: Processor on which the costs were measured; empty if they were not.
        threads: Number of threads with which the costs were measured; 0 for one per core.
        answer: What the files answer with, each the exit of its depth or the mean of the exits up to it.
        files: Exported files, by ascending depth, the one with early exits last.
        refused: Files that were asked for and were not made.
    """

    format: Literal[1] = 1
    model: str
    task: str
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...]
    input_type: str = "float32"
    features: tuple[str, ...] = ()
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    license: str = ""
    fleet: str = ""
    run: str = ""
    round: Count = 0
    model_digest: str = ""
    metric: str = ""
    samples: Count = 0
    calibration: str = ""
    opset: Count = 0
    processor: str = ""
    threads: Count = 0
    answer: AnswerMode = "exit"
    files: tuple[CardEntry, ...]
    refused: tuple[RefusedFile, ...] = ()


def encode_card(card: ModelCard) -> bytes:
    """Returns the text of ``card.json``."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


def decode_card(text: bytes, name: str = CARD_FILE) -> ModelCard:
    """Reads the text of ``card.json``.

    Args:
        text: Content of the file.
        name: Name of the file in messages.

    Raises:
        ExportError: The text is no description of exported models.
    """
    try:
        return msgspec.json.decode(text, type=ModelCard)
    except msgspec.MsgspecError as error:
        raise ExportError(
            f"{name} does not describe exported models: {error}; write it again with fedlp export"
        ) from None
