from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data


def save(folder: Path, **arrays: np.ndarray) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


X = np.arange(80, dtype=np.float64).reshape(20, 4)
Y = np.arange(20) % 2


def test_a_directory_and_its_file_give_the_same_samples(tmp_path: Path) -> None:
    save(tmp_path, x=X, y=Y)
    for spec in (f"npy:{tmp_path}#holdout=0", f"npy:{tmp_path / 'x.npy'}#holdout=0"):
        data = load_data(spec)
        assert not data.in_memory
        assert data.stored().tolist() == X.tolist()
        assert data.y.tolist() == Y.tolist()


def test_a_split_of_its_own_is_used(tmp_path: Path) -> None:
    save(tmp_path, x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3])
    assert (len(load_data(f"npy:{tmp_path}")), len(load_data(f"npy:{tmp_path}", "test"))) == (20, 3)


def test_bytes_are_pixels_and_names_come_from_the_list(tmp_path: Path) -> None:
    save(tmp_path, x=np.full((4, 1, 2, 2), 255, np.uint8), y=np.array(["ok", "bad"] * 2))
    (tmp_path / "classes.txt").write_text("ok\nbad\nother\n")
    data = load_data(f"npy:{tmp_path}#holdout=0")
    assert (data.classes, data.y.tolist()) == (("ok", "bad", "other"), [0, 1, 0, 1])
    assert data.batch(slice(0, 1))[0].flatten().tolist() == [1.0] * 4


def test_targets_of_a_regression_are_numbers(tmp_path: Path) -> None:
    data = load_data(f"npy:{save(tmp_path, x=X, y=X[:, :2])}#holdout=0", targets="values")
    assert data.y.shape == (20, 2)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": Y}, "has no x.npy"),
        ({"x": X, "y": Y[:3]}, "must go together, but they hold 20 and 3 samples"),
        ({"x": X}, "has no y.npy beside it"),
        ({"x": np.asfortranarray(X), "y": Y}, "is stored by columns"),
        ({"x": X[:, 0], "y": Y}, "one row a sample"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(f"npy:{save(tmp_path, **arrays)}", targets="class")


def test_a_value_that_is_not_finite_is_said_when_it_is_read(tmp_path: Path) -> None:
    x = X.copy()
    x[3, 1] = np.nan
    data = load_data(f"npy:{save(tmp_path, x=x, y=Y)}#holdout=0")
    with pytest.raises(DataError, match=r"x\.npy holds values that are not finite"):
        data.stored()
