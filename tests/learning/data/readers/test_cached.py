from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.holdout import split_holdout
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.row_files import open_array

SHAPE = (2, 3)


class Counted:
    """Reads samples that are their own position, and says which it was asked for."""

    def __init__(self) -> None:
        self.shape, self.dtype, self.nbytes = SHAPE, np.dtype(np.uint8), 0
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 10

    def read(self, indices: np.ndarray) -> np.ndarray:
        self.asked += indices.tolist()
        return np.broadcast_to(indices[:, None, None], (len(indices), *SHAPE)).astype(np.uint8)


def positions(reader: SampleReader, *wanted: int) -> list[int]:
    return reader.read(np.array(wanted))[:, 0, 0].tolist()  # type: ignore[no-any-return]


def test_what_fits_is_read_once_and_the_rest_again() -> None:
    source = Counted()
    cached = CachedReader(source, bound=4 * 6 + 5)
    for _ in range(3):
        assert positions(cached, 7, 1, 3) == [7, 1, 3]
        assert positions(cached, 9, 8, 7, 9) == [9, 8, 7, 9]
    assert source.asked == [1, 3, 7, 8, 9, 9, 9]


def test_the_bound_holds_from_the_start() -> None:
    cached = CachedReader(Counted(), bound=29)
    before = cached.nbytes
    positions(cached, *range(10))
    assert cached.nbytes == before <= 29 + 4 * 10


def folder(tmp_path: Path, pictures: int = 40) -> Path:
    for number in range(pictures):
        path = tmp_path / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 100 + number).save(path)
    return tmp_path


def pictures(root: Path, cache: str) -> Dataset:
    return load_data(f"imagefolder:{root}#size=2&channels=1&holdout=0{cache}")


def test_pictures_beyond_the_bound_are_the_same_and_in_the_same_order(tmp_path: Path) -> None:
    folder(tmp_path)
    eager, lazy = pictures(tmp_path, ""), pictures(tmp_path, "&cache=0")
    assert eager.in_memory
    assert not lazy.in_memory
    assert lazy.stored().equal(eager.stored())
    assert lazy.y.equal(eager.y)
    assert lazy.batch(slice(3, 9))[0].equal(eager.batch(slice(3, 9))[0])


def test_the_same_pictures_are_held_out_whether_they_are_in_memory_or_not(tmp_path: Path) -> None:
    folder(tmp_path)
    parts = [split_holdout(pictures(tmp_path, cache), 0.3) for cache in ("", "&cache=0")]
    assert parts[0][1] is not None
    assert parts[1][1] is not None
    assert parts[0][1].stored().equal(parts[1][1].stored())


def test_an_unreadable_picture_is_replaced_by_one_of_its_class_and_told_once(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "a" / "04.png").write_bytes(b"no picture")
    lazy = pictures(tmp_path, "&cache=0")
    values = lazy.stored()[:20, 0, 0, 0].tolist()
    assert values == [100, 102, 100, *range(106, 140, 2)]
    assert lazy.store.take_note() == (
        f"1 of 40 pictures cannot be read so far, the first is {Path('a') / '04.png'} is not a picture"
    )
    assert lazy.store.take_note() == ""


def test_a_folder_that_cannot_be_read_is_refused_before_training(tmp_path: Path) -> None:
    folder(tmp_path)
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"pictures cannot be read, the first is b/.*is empty"):
        pictures(tmp_path, "&cache=0")


def test_rows_come_from_the_file_in_any_order(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.int16).reshape(6, 2, 2)
    np.save(tmp_path / "x.npy", x)
    rows = open_array(tmp_path / "x.npy")
    wanted = np.array([5, 0, 1, 2, 2])
    assert rows.take(wanted).tolist() == x[wanted].tolist()
    assert rows.take(np.array([], np.int64)).shape == (0, 2, 2)


def test_a_file_that_becomes_shorter_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((6, 100)))
    rows = open_array(tmp_path / "x.npy")
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"x\.npy has become shorter"):
        rows.take(np.array([5]))
    with pytest.raises(DataError, match="is cut short"):
        open_array(tmp_path / "x.npy")
