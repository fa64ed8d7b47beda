"""What people keep weights in, and what only looks like it."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.weight_files import read_weights

WEIGHTS = {"fc.weight": torch.tensor([[1.0, 2.0]]), "fc.bias": torch.tensor([3.0])}


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt"])
def test_reads_what_torch_saves(tmp_path: Path, name: str) -> None:
    torch.save(WEIGHTS, tmp_path / name)
    assert read_weights(tmp_path / name)["fc.weight"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "wrapped",
    [
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer_states": [{"lr": 0.1}]},
        {"model_state_dict": WEIGHTS, "loss": 0.5},
        {"model": {"module": WEIGHTS}, "args": ["a"]},
        {"encoder": WEIGHTS, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": []}},
        {"epoch": 3, "ema": {"decay": 0.99, "shadow": WEIGHTS}},
        {"state_dict": {"fc.weight": torch.zeros(1, 2)}, "state_dict_ema": WEIGHTS},
    ],
)
def test_finds_the_state_in_what_training_scripts_save(tmp_path: Path, wrapped: dict[str, object]) -> None:
    torch.save(wrapped, tmp_path / "w.pt")
    assert list(read_weights(tmp_path / "w.pt")) == list(WEIGHTS)


def test_scores_and_arguments_beside_the_state_are_read_as_values(tmp_path: Path) -> None:
    beside = {"best": np.float64(0.9), "epoch": np.int64(3), "args": Namespace(lr=0.1, name="one")}
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "last.pth")
    assert list(read_weights(tmp_path / "last.pth")) == list(WEIGHTS)


def test_several_models_in_one_file_are_named(tmp_path: Path) -> None:
    torch.save({"student": WEIGHTS, "teacher": WEIGHTS}, tmp_path / "w.pt")
    with pytest.raises(StartWeightsError, match=r"holds several models \(student, teacher\): save the state_dict of"):
        read_weights(tmp_path / "w.pt")


def test_reads_weights_in_several_files(tmp_path: Path) -> None:
    for number, name in enumerate(WEIGHTS, start=1):
        save_file({name: WEIGHTS[name]}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        '{"metadata": {"total_size": 12}, "weight_map": {"fc.weight": "model-00001-of-00002.safetensors", '
        '"fc.bias": "model-00002-of-00002.safetensors"}}',
        "utf-8",
    )
    assert {name: value.tolist() for name, value in read_weights(index).items()} == {
        "fc.weight": [[1.0, 2.0]],
        "fc.bias": [3.0],
    }
    with pytest.raises(StartWeightsError, match=r"is part 2 of 2: name the index.json beside it"):
        read_weights(tmp_path / "model-00002-of-00002.safetensors")


def test_goes_by_what_a_file_holds_and_not_by_its_name(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "pytorch_model.bin")
    torch.save(WEIGHTS, tmp_path / "model.safetensors")
    for name in ("pytorch_model.bin", "model.safetensors"):
        assert read_weights(tmp_path / name)["fc.weight"].tolist() == [[1.0, 2.0]]


def test_reads_numpy_archives_with_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in WEIGHTS.items()})
    assert read_weights(tmp_path / "w.npz")["fc.weight"].tolist() == [[1.0, 2.0]]
    np.savez(tmp_path / "w.npz", *(value.numpy() for value in WEIGHTS.values()))  # as Flower's tutorials do
    with pytest.raises(
        StartWeightsError, match=r"w\.npz holds 2 arrays without names: save them with those of the state"
    ):
        read_weights(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", w=np.array([{}], dtype=object))
    with pytest.raises(StartWeightsError, match="cannot be read as weights: Object arrays cannot be loaded"):
        read_weights(tmp_path / "w.npz")


def test_names_what_a_pickle_holds_beside_tensors(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "net": nn.Linear(2, 1)}, tmp_path / "w.pt")
    with pytest.raises(
        StartWeightsError, match=r"holds more than tensors, such as torch\.nn\..*Linear, and is not read"
    ):
        read_weights(tmp_path / "w.pt")


def test_says_that_a_file_is_cut_short(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").touch()
    with pytest.raises(StartWeightsError, match=r"empty\.pt cannot be read as weights: it is damaged or cut short"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(StartWeightsError, match="damaged or cut short: copy it again"):
        read_weights(tmp_path / "w.pt")


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors")["fc.bias"].tolist() == [3.0]


class _Runs:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_never_runs_the_code_of_a_pickle(tmp_path: Path, legacy: bool) -> None:
    file, made = tmp_path / "w.pt", tmp_path / "made"
    torch.save({"fc.weight": _Runs(made)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(StartWeightsError, match=r"w.pt is a pickle that holds more than tensors, such as code") as said:
        read_weights(file)
    assert not made.exists()
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("value", [nn.Linear(2, 1), {"state_dict": WEIGHTS, "where": Path("runs")}])
def test_refuses_whole_modules_and_objects(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(StartWeightsError, match="holds more than tensors"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("w.pt", b"", "cannot be read|damaged|more than tensors"),
        ("w.pt", b"no pickle at all", "damaged|cannot be read|more than tensors"),
        ("w.safetensors", b"\x00" * 20, "cannot be read as safetensors"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("w.pth", b"\n<!DOCTYPE html>", "is a web page"),
        ("w.onnx", b"", "is no file of weights: .safetensors, .npz, .pt"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StartWeightsError, match=reason) as said:
        read_weights(tmp_path / name)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("value", "held"), [([1, 2], "a list"), ({"epoch": 3}, "the keys epoch"), (torch.zeros(3), "a Tensor")]
)
def test_refuses_what_holds_no_tensors_by_name(tmp_path: Path, value: object, held: str) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(StartWeightsError, match=f"holds no tensors by name, but {held}"):
        read_weights(tmp_path / "w.pt")


def test_says_of_torchscript_what_is_needed(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 1), torch.zeros(1, 2)), tmp_path / "w.pt")
    with pytest.raises(StartWeightsError, match="TorchScript, of which the state_dict is needed"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pth.tar", "W.PT"])
def test_reads_files_by_the_names_that_training_scripts_give(tmp_path: Path, name: str) -> None:
    torch.save({"epoch": torch.tensor(3), "best": torch.tensor(0.5), "state_dict": WEIGHTS}, tmp_path / name)
    assert read_weights(tmp_path / name).keys() == WEIGHTS.keys()


@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_sparse_and_quantised_tensors_become_ordinary_ones(tmp_path: Path) -> None:
    whole = torch.tensor([[0.0, 0.5], [1.0, 0.0]])
    torch.save({"a": whole.to_sparse(), "b": torch.quantize_per_tensor(whole, 0.5, 0, torch.qint8)}, tmp_path / "w.pt")
    assert {name: value.tolist() for name, value in read_weights(tmp_path / "w.pt").items()} == {
        "a": whole.tolist(),
        "b": whole.tolist(),
    }


def test_refuses_tensors_without_values(tmp_path: Path) -> None:
    torch.save({"a": torch.empty(2, device="meta")}, tmp_path / "w.pt")
    with pytest.raises(StartWeightsError, match=r"a in .* has a shape and no values"):
        read_weights(tmp_path / "w.pt")
