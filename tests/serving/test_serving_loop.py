"""The loop of a serving process, in this process."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import OperatorError
from fedlp_edge.serving.serving_loop import serve_model
from fedlp_edge.serving.serving_options import ServingOptions
from tests.serving.model_file import write_model


def test_reports_until_a_signal_and_needs_no_port(tmp_path: Path) -> None:
    options = ServingOptions(model=str(write_model(tmp_path / "model.onnx")), report_seconds=0.001)
    urls: list[str] = []
    reports: list[ServingReport] = []

    def reported(report: ServingReport) -> None:
        if not reports:
            os.kill(os.getpid(), signal.SIGTERM)
        reports.append(report)

    serve_model(options, urls.append, reported)
    assert urls == [""]
    assert reports[0].file == "model.onnx"


def test_a_port_that_is_taken_is_named_by_its_key(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ServingOptions(model=str(model), listen=("127.0.0.1", port), port_name="listen in [serve]")
        with pytest.raises(OperatorError, match="Address already in use; choose another listen in"):
            serve_model(options, print)
