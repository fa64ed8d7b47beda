"""Samples from an ``.npz`` file or a function of the user's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.sources import list_samples
from fedlp_edge.learning.data.spec.parsing import parse_spec


def save_npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_load_npz_scales_bytes_and_takes_floats_as_they_are(tmp_path: Path) -> None:
    pixels = np.full((10, 1, 2, 2), 255, dtype=np.uint8)
    labels = np.arange(10) % 2
    x, _ = load_data(save_npz(tmp_path / "a.npz", x=pixels, y=labels)).batch(slice(0, 1))
    assert x.tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
    readings = np.full((10, 3), 7.5)
    x, _ = load_data(save_npz(tmp_path / "b.npz", x=readings, y=labels)).batch(slice(0, 1))
    assert x.tolist() == [[7.5, 7.5, 7.5]]


def test_load_npz_holds_out_a_fifth_or_uses_its_own_test_split(tmp_path: Path) -> None:
    x, y = np.zeros((20, 4), dtype=np.float32), np.arange(20) % 2
    spec = save_npz(tmp_path / "a.npz", x=x, y=y)
    assert (len(load_data(spec, "train")), len(load_data(spec, "test"))) == (16, 4)
    assert len(load_data(f"{spec}#holdout=0", "train")) == 20
    with pytest.raises(DataError, match="no samples in its test split"):
        load_data(f"{spec}#holdout=0", "test")
    spec = save_npz(tmp_path / "b.npz", x=x, y=y, x_test=x[:3], y_test=y[:3])
    assert (len(load_data(spec, "train")), len(load_data(spec, "test"))) == (20, 3)


def test_load_npz_takes_class_names(tmp_path: Path) -> None:
    x, y = np.zeros((10, 4), dtype=np.float32), np.arange(10) % 2
    assert load_data(save_npz(tmp_path / "a.npz", x=x, y=y, classes=np.array(["ok", "worn"]))).classes == ("ok", "worn")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((4, 2))}, "has no arrays x and y"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3, dtype=int)}, r"\[4, 2\] and \[3\]"),
        ({"x": np.zeros((4, 2)), "y": np.full(4, 0.5)}, "y must hold class numbers"),
        ({"x": np.zeros((4, 2)), "y": np.full(4, -1)}, "y must hold class numbers"),
        ({"x": np.full((4, 2), np.nan), "y": np.zeros(4, dtype=int)}, "not finite"),
        ({"x": np.full((4, 2), "a"), "y": np.zeros(4, dtype=int)}, "x must hold numbers"),
        ({"x": np.array([[object()]] * 4), "y": np.zeros(4, dtype=int)}, "object arrays are refused"),
    ],
)
def test_load_npz_refuses_what_is_no_data(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(save_npz(tmp_path / "a.npz", **arrays), targets="class")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short", b"\x80\x04K\x01."])
def test_load_npz_refuses_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot read") as refused:
        load_data(f"npz:{tmp_path / 'a.npz'}")
    assert "allow_pickle" not in str(refused.value)  # NumPy would advise to run the code in it


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module of the same name follows within a second

    def write(body: str) -> None:
        sys.modules.pop("own_data_for_test", None)
        (tmp_path / "own_data_for_test.py").write_text(f"import numpy as np\n{body}\n")

    return write


def test_load_callable_gets_the_split(own_module: Callable[[str], None]) -> None:
    own_module(
        "def load(split):\n"
        "    n = 6 if split == 'train' else 2\n"
        "    return np.zeros((n, 3), np.float32), np.arange(n) % 2, ['up', 'down']\n"
        "def broken(split):\n    raise KeyError('sensor')\n"
        "def wrong(split):\n    return 3\n"
    )
    data = load_data("own_data_for_test:load", "train")
    assert (len(data), len(load_data("own_data_for_test:load", "test"))) == (6, 2)
    assert data.classes == ("up", "down")
    with pytest.raises(DataError, match="KeyError: 'sensor'"):
        load_data("own_data_for_test:broken")
    with pytest.raises(DataError, match=r"must return \(x, y\)"):
        load_data("own_data_for_test:wrong")
    with pytest.raises(DataError, match="has no attribute 'gone'"):
        load_data("own_data_for_test:gone")
    with pytest.raises(DataError, match="No module named 'nowhere_to_be_found'"):
        load_data("nowhere_to_be_found:load")


def test_a_class_that_takes_more_than_the_split_is_told_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "class Pictures:\n    def __init__(self, root, size=None):\n        open(root + '/index')\n"
    (tmp_path / "own_class_of_pictures.py").write_text(code)
    words = r"No such file or directory.*; it was given 'train' alone: name a function that makes it as you do$"
    with pytest.raises(DataError, match=words):
        load_data("own_class_of_pictures:Pictures")


GROUPED = "    return {'x': np.arange(20.0).reshape(10, 2), 'y': np.arange(10) % 2, 'groups': ['b', 'a'] * 5}\n"


def test_groups_of_a_function_are_shared_and_chosen(own_module: Callable[[str], None]) -> None:
    own_module(f"def grouped(split):\n{GROUPED}")
    listing = list_samples(parse_spec("own_data_for_test:grouped").whole(), "train")
    assert listing.group_names == ("a", "b")
    assert listing.groups is not None
    assert listing.groups.tolist() == [1, 0] * 5
    chosen = load_data(parse_spec("own_data_for_test:grouped#only=a").whole())
    assert chosen.stored()[:, 0].tolist() == [2, 6, 10, 14, 18]
    share = load_data("own_data_for_test:grouped#share=1/2&partition=group&holdout=0")
    assert share.stored()[:, 0].tolist() == [0, 4, 8, 12, 16]


def test_groups_of_an_npz_file_are_those_of_the_split(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    one = save_npz(tmp_path / "a.npz", x=x, y=y, groups=np.array([7, 7, 10, 10, 9, 9]))
    assert load_data(parse_spec(f"{one}#only=10").whole()).stored()[:, 0].tolist() == [4, 6]
    test = {"x_test": x[:2], "y_test": y[:2], "groups_test": y[:2]}
    two = save_npz(tmp_path / "b.npz", x_train=x, y_train=y, groups_train=y, **test)
    assert len(load_data(f"{two}#only=1", "train")) == 3
    assert len(load_data(f"{two}#only=1", "test")) == 1


def test_groups_that_do_not_go_with_the_samples_are_refused(own_module: Callable[[str], None]) -> None:
    own_module(
        f"def grouped(split):\n{GROUPED}"
        "def short(split):\n    return {'x': np.zeros((4, 2)), 'y': [0, 1] * 2, 'groups': ['a']}\n"
        "def without(split):\n    return np.zeros((4, 2)), [0, 1] * 2\n"
    )
    with pytest.raises(DataError, match="has no group 'c': it has a, b"):
        load_data("own_data_for_test:grouped#only=c")
    with pytest.raises(DataError, match="gave 4 samples and 1 groups: one group a sample"):
        load_data("own_data_for_test:short")
    with pytest.raises(DataError, match="has no groups for only=: return a mapping with x, y and groups"):
        load_data("own_data_for_test:without#only=a")


@pytest.mark.parametrize("arguments", ["", "split", "split='train'"])
def test_a_function_that_knows_no_splits_has_samples_held_out(
    own_module: Callable[[str], None], arguments: str
) -> None:
    own_module(f"def load({arguments}):\n    return np.arange(40.0).reshape(20, 2), np.arange(20) % 2\n")
    train, test = (load_data("own_data_for_test:load", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (16, 4)
    assert not set(train.stored()[:, 0].tolist()) & set(test.stored()[:, 0].tolist())
    assert train.remarks == "the function knows no splits: 20% of its samples are held out"
    assert len(load_data(parse_spec("own_data_for_test:load").whole())) == 20


def test_the_functions_of_the_documentation_read_files_of_other_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other_data_for_test.py").write_text(page.partition("### Files of other kinds")[2].split("```")[1][6:])
    user = {"x": [[0.5] * 784] * 2, "y": [3, 4]}
    for file, content in {
        "femnist/data/train/all_data_0.json": json.dumps({"users": ["f1"], "user_data": {"f1": user}}),
        "UCI HAR Dataset/train/X_train.txt": "  1.0e+00 -2.0e-01\n  2.0e+00  3.0e-01\n",
        "UCI HAR Dataset/train/y_train.txt": "1\n5\n",
        "UCI HAR Dataset/train/subject_train.txt": "7\n9\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    torch.save({"x": torch.ones(3, 2), "y": torch.tensor([0, 1, 1])}, tmp_path / "samples.pt")
    (tmp_path / "cwru").mkdir()
    scipy.io.savemat(tmp_path / "cwru" / "IR007_0.mat", {"X105_DE_time": np.zeros((2500, 1)), "X105RPM": 1797})
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n3,{' '.join(['7'] * 2304)},Training\n")
    for name in ("ok", "worn"):
        (tmp_path / "samples" / name).mkdir(parents=True)
        np.save(tmp_path / "samples" / name / "1.npy", np.zeros((2, 3)))
    leaf, har, bearings, tensors, faces, arrays = (
        list_samples(parse_spec(f"other_data_for_test:{name}").whole(), "train")
        for name in ("leaf", "har", "bearings", "tensors", "faces", "arrays")
    )
    assert (leaf.samples(None).shape, leaf.group_names) == ((1, 28, 28), ("f1",))
    assert (har.labels.tolist(), har.group_names) == ([0, 4], ("7", "9"))
    assert (bearings.samples(None).array.shape, bearings.classes) == ((2, 1, 1024), ("IR007",))
    assert tensors.labels.tolist() == [0, 1, 1]
    assert (arrays.samples(None).array.shape, arrays.classes) == ((2, 2, 3), ("ok", "worn"))
    assert (faces.samples(None).array.shape, faces.samples(None).array.max()) == ((1, 1, 48, 48), 7)
