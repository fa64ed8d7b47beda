"""Files and folders are the inputs of an exported model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inputs.inference_inputs import find_inputs
from fedlp_edge.learning.export.metadata import OnnxMetadata

VECTORS = OnnxMetadata(model="m", depth=1, input_shape=(4,), classes=("a", "b"), scale=1.0, mean=(0.0,), std=(1.0,))


def test_files_come_as_named_and_those_of_a_folder_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("c.npy", "b.npy", "notes.txt"):
        (folder / name).touch()
    single = tmp_path / "z.npy"
    inputs = find_inputs([single, folder], VECTORS)
    assert inputs.files == [single, folder / "b.npy", folder / "c.npy"]
    assert inputs.skipped == []


def test_tables_of_a_folder_are_for_models_of_tables(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    assert find_inputs([tmp_path], VECTORS).files == [tmp_path / "rows.csv"]
    spectrum = msgspec.structs.replace(VECTORS, input_shape=(2, 4, 4))
    with pytest.raises(DataError, match=r"holds no \.npy files"):
        find_inputs([tmp_path], spectrum)


def test_folder_without_inputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        find_inputs([tmp_path], VECTORS)
    assert str(caught.value) == f"{tmp_path} holds no tables or .npy files"
