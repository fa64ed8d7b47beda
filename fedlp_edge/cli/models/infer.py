"""This module implements ``fedlp infer``, which runs an exported model on pictures or arrays by onnxruntime alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from fedlp_edge.learning.export.inference import Classifier, Prediction
from fedlp_edge.learning.export.inference_inputs import find_inputs
from fedlp_edge.reporting.console import open_console
from fedlp_edge.system.lifecycle import EXIT_ERROR, EXIT_INCOMPLETE, print_error

_MAX_NAMED = 3  # of the files that a summary is about
_PIPED_COLUMNS = 500  # a program that reads the pipe needs whole lines


def run_infer(model: Path, files: Sequence[Path], *, as_json: bool) -> int:
    """Prints one line per input: what the model says, with its probability and the runners-up where it has them.

    A file that is no picture does not cost the others their answer.

    Args:
        model: An exported model.
        files: Pictures or ``.npy`` files, and folders that are searched for them.
        as_json: One JSON object a line instead of a table.

    Returns:
        0; 2 if a file that was named could not be read, or none could; 3 if some in a folder could not.

    Raises:
        ExportError: The model cannot be used.
        DataError: A folder holds nothing that the model takes.
    """
    classifier = Classifier(model)
    inputs = find_inputs(files, classifier.onnx_metadata)
    predictions: list[Prediction] = []
    unread: list[str] = []
    code = 0
    for file, answer in classifier.predict_all(inputs.files):
        if isinstance(answer, Prediction):
            predictions.append(answer)
            if as_json:
                print(msgspec.json.encode(answer).decode(), flush=True)
        elif file in inputs.named:
            print_error(str(answer))
            code = EXIT_ERROR
        else:
            unread.append(str(answer))
    if unread:
        print_error(f"{len(unread)} of {len(inputs.files)} files were not classified: {_some(unread)}")
        code = code or (EXIT_INCOMPLETE if predictions else EXIT_ERROR)
    for line in [*inputs.skipped, *_warnings(predictions)]:
        print(f"warning: {line}", file=sys.stderr)
    if predictions and not as_json:
        console = open_console()
        if not console.is_terminal:
            console.width = _PIPED_COLUMNS
        console.print(_table(predictions, classifier.onnx_metadata.task))
    return code


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
