"""``fedlp serve`` in this process, until a signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from fedlp_edge.cli.models.serve import run_serve
from fedlp_edge.errors import ExportError, OperatorError
from tests.serving.model_file import write_model


def test_answers_over_http_until_it_is_told_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model.onnx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: list[object] = []

    def ask() -> None:
        try:
            for _ in range(200):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                        answers.append(json.load(answer))
                    break
                except OSError:
                    time.sleep(0.05)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    client = threading.Thread(target=ask)
    client.start()
    assert run_serve(model, "127.0.0.1", port, 1, None, "model") == 0
    client.join()
    assert capsys.readouterr().out.splitlines()[0] == f"serving {model} on http://127.0.0.1:{port}"
    (health,) = answers
    assert isinstance(health, dict)
    assert health["classes"] == ["nut", "bolt"]


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError) as caught:
            run_serve(model, "127.0.0.1", port, 1, None, "model")
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port"


def test_file_that_is_no_model_is_refused_before_anything_listens(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"?")
    with pytest.raises(ExportError):
        run_serve(path, "127.0.0.1", 0, 1, None, "model")
