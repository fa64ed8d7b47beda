"""``fedlp infer``: an exported model on pictures or arrays, with onnxruntime alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from fedlp_edge.errors import DataError
from fedlp_edge.learning.inference import Classifier, Prediction
from fedlp_edge.lifecycle import EXIT_ERROR, print_error
from fedlp_edge.reporting.console import open_console


def run_infer(model: Path, files: Sequence[Path], *, as_json: bool) -> int:
    """Prints one line per input: label, probability and the runners-up.

    A file that is no picture does not cost the others their answer.

    Returns:
        0, or 2 if some file could not be read.
    """
    classifier = Classifier(model)
    predictions: list[Prediction] = []
    code = 0
    for file in files:
        try:
            predictions.append(classifier.predict(file))
        except DataError as error:
            print_error(str(error))
            code = EXIT_ERROR
    for prediction in predictions:
        if prediction.warning:
            print(f"warning: {prediction.warning}", file=sys.stderr)
    if as_json:
        for prediction in predictions:
            print(msgspec.json.encode(prediction).decode())
        return code
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("label", style="bold", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("then", style="dim")
    for prediction in predictions:
        table.add_row(prediction.file, prediction.label, f"{100 * prediction.probability:.1f} %", _others(prediction))
    if predictions:
        open_console().print(table)
    return code


def _others(prediction: Prediction) -> str:
    return ", ".join(f"{label} {100 * probability:.1f} %" for label, probability in prediction.top[1:])
