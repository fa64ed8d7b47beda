"""This module implements ``fedlp infer``, which runs an exported model on files and folders by onnxruntime alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.models.standard_input import STANDARD_INPUT, read_standard_input
from fedlp_edge.errors import DataError, OperatorError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.learning.export.inference import Classifier, Prediction, Sample
from fedlp_edge.learning.export.inputs.inference_inputs import find_inputs, samples_of
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.reporting.console import open_console
from fedlp_edge.system.lifecycle import EXIT_ERROR, EXIT_INCOMPLETE, print_error

_MAX_NAMED = 3  # of the files that a summary is about
_BATCH = 64
_LONG = 64  # files from which on progress is shown
_PIPED_COLUMNS = 500  # a program that reads the pipe needs whole lines


def run_infer(model: Path, files: Sequence[Path], *, as_json: bool) -> int:
    """Prints one line per sample: what the model says, with its probability and the runners-up where it has them.

    What cannot be answered is one line on standard error, and does not cost the others their answer.

    Args:
        model: An exported model.
        files: Pictures, ``.npy`` files, tables, folders that are searched for them, and ``-`` for standard input.
        as_json: One JSON object a line, printed as soon as it is there, instead of a table.

    Returns:
        0 if everything was answered, 3 if only a part, and 2 if nothing was.

    Raises:
        ExportError: The model cannot be used.
        OperatorError: What is named first is no model, but another one of the names is.
        DataError: A folder holds nothing that the model takes.
    """
    if model.suffix != ".onnx" and (later := [file for file in files if file.suffix == ".onnx"]):
        raise OperatorError(f"the model stands first: fedlp infer {display_name(later[0])} {display_name(model)}")
    classifier = Classifier(model)
    inputs = _Inputs(files, classifier.onnx_metadata)
    predictions: list[Prediction] = []
    failed = 0
    with _progress(inputs.count, as_json=as_json) as advance:
        for answer in classifier.answer_all(inputs.samples(), batch=1 if inputs.count is None else _BATCH):
            if isinstance(answer, DataError):
                failed += 1
                print_error(str(answer))
            else:
                predictions.append(answer)
                if as_json:
                    print(msgspec.json.encode(answer).decode(), flush=inputs.count is None)
            advance()
    for line in [*inputs.skipped, *_warnings(predictions)]:
        print(f"warning: {line}", file=sys.stderr)
    if predictions and not as_json:
        console = open_console()
        if not console.is_terminal:
            console.width = _PIPED_COLUMNS
        console.print(_table(predictions, classifier.onnx_metadata.task))
    if not predictions and not failed:
        raise DataError("standard input is empty: give paths, one a line, or JSON lists of numbers")
    if not failed:
        return 0
    return EXIT_INCOMPLETE if predictions else EXIT_ERROR


class _Inputs:
    """Reads the samples of files, of folders and of standard input, in the order in which they are given.

    Args:
        given: Paths, and ``-`` for standard input.
        onnx_metadata: Metadata of the model.

    Attributes:
        count: Number of files; None if it is not known before the end of standard input.
        skipped: Reports on what else the folders hold, one line per folder.

    Raises:
        DataError: A folder holds nothing that the model takes.
    """

    def __init__(self, given: Sequence[Path], onnx_metadata: OnnxMetadata) -> None:
        self._metadata = onnx_metadata
        found = find_inputs(given, onnx_metadata)
        self._files, self.skipped = found.files, found.skipped
        self.count: int | None = None if STANDARD_INPUT in given else len(found.files)

    def samples(self) -> Iterator[Sample | DataError]:
        """Yields each sample, or the error why there is none."""
        for file in self._files:
            if file == STANDARD_INPUT:
                yield from self._piped()
            else:
                yield from samples_of(file, self._metadata)

    def _piped(self) -> Iterator[Sample | DataError]:
        for entry in read_standard_input(sys.stdin.buffer, self._metadata):
            if not isinstance(entry, Path):
                yield entry
                continue
            if not _is_there(entry):
                yield DataError(f"there is no file {display_name(entry)}")
                continue
            try:
                found = find_inputs([entry], self._metadata)
            except DataError as error:
                yield error
                continue
            self.skipped += found.skipped
            for file in found.files:
                yield from samples_of(file, self._metadata)


@contextlib.contextmanager
def _progress(count: int | None, *, as_json: bool) -> Iterator[Callable[[], None]]:
    """Shows on a terminal how far a long list is, unless answers go to the same terminal as they come."""
    console = open_console(stderr=True)
    if count is None or count < _LONG or not console.is_terminal or (as_json and sys.stdout.isatty()):
        yield lambda: None
        return
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console, transient=True) as progress:
        task = progress.add_task("answering", total=count)
        yield lambda: progress.advance(task)


def _warnings(predictions: Sequence[Prediction]) -> list[str]:
    """Returns one line on the changes of the inputs, however many there are."""
    said = [prediction.warning for prediction in predictions if prediction.warning]
    if len(said) <= 1:
        return said
    how = "stretched" if all("stretched" in line for line in said) else "stretched or cut to their first frame"
    return [f"{len(said)} of {len(predictions)} pictures were {how}: {_some(said)}"]


def _some(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - _MAX_NAMED} more" if len(lines) > _MAX_NAMED else ""
    return "; ".join(lines[:_MAX_NAMED]) + more


def _table(predictions: Sequence[Prediction], task: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    if task not in ("classification", "multi-label", "anomaly"):
        table.add_column("answer", style="bold")
        for prediction in predictions:
            table.add_row(Text(prediction.file), Text(prediction.label))
        return table
    table.add_column("label", style="bold", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("then", style="dim")
    for prediction in predictions:
        probability = "" if prediction.probability is None else f"{100 * prediction.probability:.1f} %"
        # Names are printed literally, never as markup.
        table.add_row(Text(prediction.file), Text(prediction.label), probability, Text(_others(prediction)))
    return table


def _others(prediction: Prediction) -> str:
    if prediction.label in ("normal", "anomalous") and not prediction.top:
        return ", ".join(f"{name} {value:.6g}" for name, value in prediction.values)
    return ", ".join(f"{label} {100 * probability:.1f} %" for label, probability in prediction.top[1:])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, or no permission
        return False
