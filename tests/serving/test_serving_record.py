"""The record of a served model: one file's fate, over the processes that serve it."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.serving.serving_record import ServingRecorder, forget_record, read_record


def link_to(directory: Path, name: str) -> Path:
    (directory / name).write_bytes(b"model")
    link = directory / "current.onnx"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    return link


def test_starts_are_counted_over_processes_and_anew_for_another_file(tmp_path: Path) -> None:
    link = link_to(tmp_path, "one.onnx")
    for _ in range(2):
        ServingRecorder(link).starts()
    record = read_record(tmp_path)
    assert record is not None
    assert (record.file, record.starts) == (str(tmp_path / "one.onnx"), 2)
    recorder = ServingRecorder(link_to(tmp_path, "two.onnx"))
    recorder.starts()
    recorder.answered()
    recorder.failed("bad input")
    record = read_record(tmp_path)
    assert record is not None
    assert (record.file, record.starts, record.answers, record.failures, record.reason) == (
        str(tmp_path / "two.onnx"),
        1,
        1,
        1,
        "bad input",
    )


def test_file_is_not_written_for_ever(tmp_path: Path) -> None:
    recorder = ServingRecorder(link_to(tmp_path, "one.onnx"))
    recorder.starts()
    for _ in range(16):
        recorder.answered()
    (tmp_path / "serving.json").unlink()
    recorder.answered()
    assert read_record(tmp_path) is None


def test_model_that_no_agent_has_installed_is_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    recorder = ServingRecorder(tmp_path / "model.onnx")
    recorder.starts()
    recorder.answered()
    recorder.failed("reason")
    assert read_record(tmp_path) is None


def test_record_can_be_forgotten(tmp_path: Path) -> None:
    ServingRecorder(link_to(tmp_path, "one.onnx")).starts()
    for _ in range(2):
        forget_record(tmp_path)
        assert read_record(tmp_path) is None


def test_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_bytes(b"{")
    assert read_record(tmp_path) is None
