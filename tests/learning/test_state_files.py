"""Values of models in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedlp_edge.errors import ModelError, StorageError
from fedlp_edge.learning.model.state_values import load_values
from fedlp_edge.learning.state_files import StateFiles, save_tensors, save_values


def test_a_model_is_filled_from_several_files(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    for name in ("weight", "bias"):
        save_values(source, tmp_path / "units" / f"{name}.safetensors", [name])
    files = StateFiles(*sorted((tmp_path / "units").iterdir()))
    load_values(target, files, ["weight", "bias"])
    assert torch.equal(source.weight, target.weight)
    assert torch.equal(source.bias, target.bias)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [("b", (2,), "lacks the tensor b"), ("a", (3,), r"a is \[2\] where the model has \[3\]")],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, name: str, shape: tuple[int, ...], reason: str) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors({"a": torch.zeros(2)}, path, durable=False)
    with StateFiles(path).open() as opened, pytest.raises(ModelError, match=reason):
        opened.read(name, shape)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match="cannot read the model state"), StateFiles(path).open():
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        save_tensors({"a": torch.zeros(1)}, tmp_path / "file" / "state.safetensors")
