"""A served model answers arrays and JSON, and follows its file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.serving.live_inputs import live_inputs
from fedlp_edge.serving.served_model import ARRAY, JSON, PICTURE, ServedModel, type_of
from fedlp_edge.serving.serving_record import read_record
from tests.learning.export.external.two_files import write_family
from tests.serving.model_file import write_model


@pytest.fixture
def served(tmp_path: Path) -> ServedModel:
    return ServedModel(write_model(tmp_path / "model.onnx"))


def npy(*values: float) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, dtype=np.float32))
    return buffer.getvalue()


def test_json_and_arrays_get_the_same_answer(served: ServedModel) -> None:
    for body, kind in ((b"[1, 2, 1]", JSON), (npy(1, 2, 1), ARRAY), (b" [1, 2, 1]", ""), (npy(1, 2, 1), "")):
        answer = served.answer(body, kind)
        assert (answer.label, answer.probability) == ("nut", pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6))
    assert served.report().answers == 4


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", JSON, "the request is empty: send a picture, a .npy file or a JSON list of numbers"),
        (b'["a"]', JSON, "the request is no JSON list of numbers of one sample"),
        (b"[[1], [1, 2]]", JSON, "the request is no JSON list of numbers of one sample"),
        (b"[1, 2]", JSON, "the request holds float32 [2]; the model takes one sample of 3"),
        (b"GIF89a", PICTURE, "the model takes samples of shape 3, not pictures: give it a .npy file"),
        (b"\x93NUMPY but cut", "", "cannot read the request: "),
    ],
)
def test_what_cannot_be_answered_gets_one_line(served: ServedModel, body: bytes, kind: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        served.answer(body, kind)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert "request-" not in str(caught.value)
    assert served.report().refused == 1


def test_a_new_file_answers_from_the_next_request_on(served: ServedModel, tmp_path: Path) -> None:
    write_model(tmp_path / "new.onnx", ("screw", "washer")).replace(tmp_path / "model.onnx")
    assert served.answer(b"[1, 2, 1]", JSON).label == "screw"
    assert served.about()["classes"] == ("screw", "washer")


def test_a_broken_new_file_leaves_the_old_model_answering(
    served: ServedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"cut")
    assert served.answer(b"[1, 2, 1]", JSON).label == "nut"
    assert served.answer(b"[1, 2, 1]", JSON).label == "nut"
    assert len(caplog.records) == 1
    (tmp_path / "model.onnx").unlink()
    assert served.answer(b"[1, 2, 1]", JSON).label == "nut"


def test_weights_that_come_after_their_model_are_taken_once_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever copies two files may copy the model first."""
    write_family(tmp_path / "new", monkeypatch)
    caplog.clear()
    served = ServedModel((tmp_path / "new" / "tiny-depth-1.onnx").rename(tmp_path / "tiny-depth-2.onnx"))
    pixels = json.dumps([[[200] * 4] * 4]).encode()
    assert (served.answer(pixels, JSON).label, served.about()["depth"]) == ("bright", 1)
    (tmp_path / "new" / "tiny-depth-2.onnx").replace(tmp_path / "tiny-depth-2.onnx")
    for _ in range(3):
        assert (served.answer(pixels, JSON).label, served.about()["depth"]) == ("bright", 1)
    assert len(caplog.records) == 1
    assert "keeps its weights in tiny-depth-2.onnx.data, which is not beside it" in caplog.text
    (tmp_path / "new" / "tiny-depth-2.onnx.data").rename(tmp_path / "tiny-depth-2.onnx.data")
    assert (served.answer(pixels, JSON).label, served.about()["depth"]) == ("bright", 2)


def test_there_must_be_a_model_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^there is no file "):
        ServedModel(tmp_path / "none.onnx")


@pytest.mark.parametrize(("body", "kind"), [(b"\x93NUMPY\x01", ARRAY), (b"\n[1]", JSON), (b"\x89PNG", PICTURE)])
def test_the_first_bytes_tell_what_a_request_holds(body: bytes, kind: str) -> None:
    assert type_of(body) == kind


def test_agent_learns_how_the_model_fares_that_it_has_installed(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx")
    (tmp_path / "current.onnx").symlink_to("model.onnx")
    (tmp_path / "live").mkdir()
    served = ServedModel(tmp_path / "current.onnx")
    served.answer(npy(1, 2, 1), ARRAY)
    with pytest.raises(DataError):
        served.answer(b"[1, 2]", JSON)
    record = read_record(tmp_path)
    assert record is not None
    assert (record.file, record.starts, record.answers, record.failures) == (str(tmp_path / "model.onnx"), 1, 1, 0)
    assert [path.read_bytes() for path in live_inputs(tmp_path)] == [npy(1, 2, 1)]
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "current.onnx").unlink()
    (tmp_path / "current.onnx").symlink_to("broken.onnx")
    assert served.answer(npy(1, 2, 1), ARRAY).label == "nut"
    record = read_record(tmp_path)
    assert record is not None
    assert (record.file, record.starts, record.failures) == (str(tmp_path / "broken.onnx"), 1, 1)
