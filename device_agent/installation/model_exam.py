"""Examines a model in onnxruntime, as a process of its own: ``python -m device_agent.installation.model_exam JSON``.

Native code that crashes, or takes all memory, ends this process and not the agent. The last line on standard output is
the answer, as JSON.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from device_agent.installation.exam_process import ExamInput, ExamOrder, ExamResult
from device_agent.model_trial import problem_of
from fedlp_edge.errors import DataError, FedLPError
from fedlp_edge.learning.export.inference import Classifier, Prediction
from fedlp_edge.learning.export.self_test import check_self_test
from fedlp_edge.wire.messages import ShadowFigures

_VALUE_TOLERANCE = 0.1  # relative difference up to which two predicted numbers count as the same answer


def examine(order: ExamOrder) -> ExamResult:
    """Runs the self-test, and then both models on the same inputs."""
    model = Path(order.model)
    try:
        problem = check_self_test(model, Path(order.self_test)) if order.self_test else problem_of(order.model)
        if problem or not order.old:
            return ExamResult(problem=problem)
        return ExamResult(shadow=shadow_exam(Path(order.old), model, order.inputs))
    except FedLPError as error:
        return ExamResult(problem=str(error))


def shadow_exam(old: Path, new: Path, inputs: Sequence[ExamInput]) -> ShadowFigures:
    """Lets two models answer the same inputs; an input that either cannot take is left out.

    Raises:
        ExportError: The new model cannot be run.
    """
    new_model = Classifier(new, threads=1)
    try:
        old_model = Classifier(old, threads=1)
    except FedLPError:  # what cannot run is no measure for what replaces it
        return ShadowFigures()
    times: tuple[list[float], list[float]] = ([], [])
    pairs: list[tuple[Prediction, Prediction, str]] = []
    for entry in inputs:
        path = Path(entry.path)
        try:
            began = time.perf_counter()
            before = old_model.predict(path)
            between = time.perf_counter()
            after = new_model.predict(path)
        except DataError:
            continue
        times[0].append(between - began)
        times[1].append(time.perf_counter() - between)
        pairs.append((before, after, entry.label))
    if not pairs:
        return ShadowFigures()
    known = [(before.label == label, after.label == label) for before, after, label in pairs if label]
    return ShadowFigures(
        inputs=len(pairs),
        agreement=sum(same_answer(before, after) for before, after, _ in pairs) / len(pairs),
        old_right=sum(right for right, _ in known) / len(known) if known else None,
        new_right=sum(right for _, right in known) / len(known) if known else None,
        old_milliseconds=1000 * statistics.median(times[0]),
        new_milliseconds=1000 * statistics.median(times[1]),
    )


def same_answer(one: Prediction, other: Prediction) -> bool:
    """Whether two models say the same: one label, or numbers that hardly differ."""
    if one.probability is not None or not one.values or one.label in ("normal", "anomalous"):
        return one.label == other.label
    if len(one.values) != len(other.values):
        return False
    return all(
        abs(mine - theirs) <= _VALUE_TOLERANCE * max(abs(mine), abs(theirs))
        for (_, mine), (_, theirs) in zip(one.values, other.values, strict=True)
    )


def main() -> None:
    """Examines what the command line says."""
    order = msgspec.json.decode(sys.argv[1], type=ExamOrder)
    try:
        result = examine(order)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        result = ExamResult(problem=f"cannot be examined: {said[:300]}")
    print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
