"""Served models of tasks other than classification: what they answer, and what is counted of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.metadata import ScoreHistogram
from fedlp_edge.serving.served_model import JSON, ServedModel, type_of
from tests.learning.export.test_inference_tasks import PAIR, Node, write


def test_a_regression_is_answered_by_column_and_drifts_from_its_self_test(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(
        PAIR, task="regression", outputs=("values",), classes=("load", "heat"), features=("x", "y"),
        confidence=ScoreHistogram(edges=(0.0,), shares=(0.5, 0.5)),
    )  # fmt: skip
    served = ServedModel(write(tmp_path / "m.onnx", metadata, [("Neg", ["input"], ["values"], {})]))
    assert served.answer(b"[1, 2]", JSON).values == (("load", -1.0), ("heat", -2.0))
    assert served.answer(b'{"y": 2, "x": 1}', "").label == "load -1, heat -2"
    with pytest.raises(DataError, match="the request has no column 'y'"):
        served.answer(b'{"x": 1}', JSON)
    report = served.report()
    assert (report.file, report.answers, report.refused, report.labels) == ("m.onnx", 2, 1, {})
    assert report.scores == (1.0, 0.0)
    # Divergence of (1, 0) and (1/2, 1/2), see test_answer_statistics.
    assert report.drift == pytest.approx(0.3113**0.5, abs=1e-4)


def test_labels_of_a_multi_label_model_are_counted_together(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(PAIR, task="multi-label", outputs=("probabilities",))
    served = ServedModel(write(tmp_path / "m.onnx", metadata, [("Sigmoid", ["input"], ["probabilities"], {})]))
    for row in (b"[1, 1]", b"[1, 1]", b"[-1, 1]"):
        served.answer(row, JSON)
    assert served.report().labels == {"bolt": 1, "nut, bolt": 2}
    assert sum(served.report().scores) == pytest.approx(1)


def test_anomalies_are_counted_and_their_scores_without_a_reference_are_not(tmp_path: Path) -> None:
    metadata = msgspec.structs.replace(PAIR, task="anomaly", classes=(), outputs=("score", "anomalous"), threshold=1.0)
    nodes: list[Node] = [
        ("ReduceSumSquare", ["input"], ["score"], {"axes": [1], "keepdims": 0}),
        ("Greater", ["score", "limit"], ["anomalous"], {}),
    ]
    path = write(
        tmp_path / "m.onnx",
        metadata,
        nodes,
        constants={"limit": np.float32(1.0)},
        types={"anomalous": TensorProto.BOOL},
    )
    served = ServedModel(path)
    assert served.answer(b"[2, 1]", JSON).label == "anomalous"
    report = served.report()
    assert (report.labels, report.scores, report.drift) == ({"anomalous": 1}, (), None)


def test_a_request_of_an_object_is_json() -> None:
    assert type_of(b' {"x": 1}') == JSON
