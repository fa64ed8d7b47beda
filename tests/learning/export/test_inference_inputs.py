"""Files and folders are the inputs of an exported model."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inference_inputs import find_inputs
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
    assert inputs.named == {single}
    assert inputs.skipped == []


def test_folder_without_inputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        find_inputs([tmp_path], VECTORS)
    assert str(caught.value) == f"{tmp_path} holds no .npy files"
