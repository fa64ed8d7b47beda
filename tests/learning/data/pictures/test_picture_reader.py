"""Pictures of a listing are read from their files."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.pictures import picture_decoding
from fedlp_edge.learning.data.pictures.picture_decoding import PictureError, read_picture


def paint(path: Path, grey: int = 100, side: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), grey).save(path)


def load(root: Path, options: str = "size=2&channels=1&holdout=0", split: str = "train") -> Dataset:
    return load_data(f"imagefolder:{root}#{options}", split)  # type: ignore[arg-type]


def grey(path: Path) -> list[list[int]]:
    image: list[list[int]] = read_picture(path, 1, (2, 2)).pixels[0].tolist()
    return image


def encoded(kind: str, tail: Callable[[bytes], bytes]) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, kind)
    return tail(whole.getvalue())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (bytes(500), "holds only zeros"),
        (b"no picture", "is not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture or a film"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<html><body>404</body></html>", "is a web page"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "is a kind of TIFF that is not read"),
        (b"\x89PNG\r\n\x1a\n", "is damaged"),
        *[
            (encoded(kind, lambda b: b[: len(b) // 3]), "is (cut short|damaged)")
            for kind in ("PNG", "JPEG", "GIF", "BMP")
        ],
        *[
            (encoded(kind, lambda b: b[: len(b) // 2] + bytes(len(b) - len(b) // 2)), "is (cut short|damaged)")
            for kind in ("PNG", "JPEG", "WEBP")
        ],
    ],
)
def test_torn_files_are_left_out_counted_and_named(tmp_path: Path, content: bytes, words: str) -> None:
    for number in range(7):
        paint(tmp_path / "ok" / f"{number}.png")
    for number in range(2):
        (tmp_path / "ok" / f"bad{number}.jpg").write_bytes(content)
    data = load(tmp_path)
    assert len(data) == 7
    assert data.remarks.startswith("left out: 2 pictures that cannot be read (ok/bad0.jpg ")
    with pytest.raises(PictureError, match=words):
        grey(tmp_path / "ok" / "bad0.jpg")


def test_too_many_torn_files_are_refused_with_the_first(tmp_path: Path) -> None:
    for number in range(10):
        paint(tmp_path / "ok" / f"{number}.png")
    for number in range(4):
        (tmp_path / "ok" / f"bad{number}.png").touch()
    with pytest.raises(DataError, match=r"4 of 14 pictures cannot be read, the first is ok/bad0\.png is empty"):
        load(tmp_path)


def test_limit_and_share_choose_before_they_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        paint(tmp_path / "ab"[number % 2] / f"{number}.png", number)
    read: list[Path] = []

    def counted(file: Path, channels: int, size: tuple[int, int]) -> picture_decoding.Picture:
        read.append(file)
        return read_picture(file, channels, size)

    monkeypatch.setattr("fedlp_edge.learning.data.pictures.picture_reader.read_picture", counted)
    assert len(load(tmp_path, "size=2&channels=1&holdout=0&limit=5")) == 5
    assert len(read) == 5
    parts = [load(tmp_path, f"size=2&channels=1&holdout=0&share={device}/4") for device in range(4)]
    assert len(read) == 45
    assert sorted(value for part in parts for value in part.stored()[:, 0, 0, 0].tolist()) == list(range(40))


def test_pictures_are_held_once_while_they_are_read(tmp_path: Path) -> None:
    for number in range(60):
        paint(tmp_path / "ok" / f"{number}.png", number)
    load(tmp_path)  # what Pillow and torch keep for ever
    tracemalloc.start()
    data = load(tmp_path, "size=128&channels=3&holdout=0")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.nbytes > 2_900_000
    assert peak < 1.3 * data.nbytes
