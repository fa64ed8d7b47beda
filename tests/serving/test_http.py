"""The HTTP interface, called as a server calls it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fedlp_edge.serving import http
from fedlp_edge.serving.served_model import ServedModel
from tests.serving.model_file import write_model


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return http.make_app(ServedModel(write_model(tmp_path / "model.onnx")))


def call(app: Any, method: str, path: str, *parts: bytes, kind: str = "") -> tuple[int, Any]:
    """Calls an ASGI application with a request whose body comes in parts; returns status and decoded body."""
    incoming = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts or (b"",), start=1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [(b"content-type", kind.encode())], "http_version": "1.1", "root_path": "", "scheme": "http"}
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body) if body.startswith((b"{", b"[")) else body


def test_a_sample_is_answered_and_counted(app: Any) -> None:
    status, answer = call(app, "POST", "/v1/infer", b"[1,", b"2,1]", kind="application/json")
    assert (status, answer["label"]) == (200, "nut")
    status, report = call(app, "GET", "/v1/statistics")
    assert (status, report["answers"], report["labels"]) == (200, 1, {"nut": 1})


def test_a_bad_sample_is_the_callers_fault(app: Any) -> None:
    status, answer = call(app, "POST", "/v1/infer", b"[1]", kind="application/json")
    assert (status, answer) == (400, {"error": "the request holds float32 [1]; the model takes one sample of 3"})


def test_a_request_that_is_too_large_is_not_read_to_its_end(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REQUEST_BYTES", 2**20)
    status, answer = call(app, "POST", "/v1/infer", bytes(2**20), b"x", b"never read")
    assert (status, answer) == (413, {"error": "the request is larger than 1 MiB"})


def test_health_tells_the_model(app: Any) -> None:
    status, answer = call(app, "GET", "/health")
    assert status == 200
    assert {key: answer[key] for key in ("status", "model", "depth", "classes")} == {
        "status": "ok",
        "model": "tiny",
        "depth": 1,
        "classes": ["nut", "bolt"],
    }


def test_the_description_names_every_way_and_every_answer(app: Any) -> None:
    status, document = call(app, "GET", "/openapi.json")
    assert status == 200
    assert list(document["paths"]) == ["/v1/infer", "/v1/statistics", "/health"]
    answer = document["paths"]["/v1/infer"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][answer["$ref"].rpartition("/")[2]]
    assert {"label", "probability"} <= set(schema["properties"])


def test_another_method_or_path_is_refused(app: Any) -> None:
    assert call(app, "GET", "/v1/infer")[0] == 405
    assert call(app, "GET", "/v2")[0] == 404
