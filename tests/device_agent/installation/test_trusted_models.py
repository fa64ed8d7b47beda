"""The record of models that were verified on this device."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.installation.trusted_models import TrustedModels
from fedlp_edge.errors import StorageError


def test_model_is_trusted_after_it_was_verified_and_not_when_it_has_changed(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"one")
    trusted = TrustedModels(tmp_path / "trusted")
    assert not trusted.has(model)
    trusted.add(model)
    trusted.add(model)
    assert TrustedModels(tmp_path / "trusted").has(model)
    model.write_bytes(b"two")
    assert not trusted.has(model)
    assert not trusted.has(tmp_path / "gone")


def test_damaged_record_trusts_nothing(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"one")
    trusted = TrustedModels(tmp_path)
    trusted.add(model)
    (tmp_path / "verified.json").write_bytes(b"[")
    assert not trusted.has(model)


def test_record_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "verified.json").mkdir()
    (tmp_path / "m.onnx").write_bytes(b"one")
    with pytest.raises(StorageError, match=r"verified.json: Is a directory"):
        TrustedModels(tmp_path).add(tmp_path / "m.onnx")
