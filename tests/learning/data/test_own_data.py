"""Samples from an ``.npz`` file or a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data


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

    def write(body: str) -> None:
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
