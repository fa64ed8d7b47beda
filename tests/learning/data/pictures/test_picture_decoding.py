"""Folders of pictures as cameras, phones, operating systems and power cuts leave them."""

from __future__ import annotations

import io
import struct
import unicodedata
import zlib
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


def colour(path: Path) -> list[int]:
    """Of the upper left pixel."""
    pixel: list[int] = read_picture(path, 3, (2, 2)).pixels[:, 0, 0].tolist()
    return pixel


def png(width: int, height: int, rows: bytes) -> bytes:
    """In colour, 16 bits a channel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# What cameras and programs write


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_are_scaled_by_their_type(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    values = np.array([[0, 257 * 10], [257 * 100, 65535]], np.uint16)
    Image.fromarray(values).save(path, **({"irreversible": False} if suffix == "jp2" else {}))
    assert grey(path) == [[0, 10], [100, 255]]
    assert colour(path) == [0, 0, 0]


def test_values_of_other_types_are_scaled_by_these(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5], [1 / 255, 1]], np.float32)).save(tmp_path / "float.tif")
    assert grey(tmp_path / "float.tif") == [[0, 128], [1, 255]]
    Image.fromarray(np.array([[0, 2570], [25700, 65535]], np.int32)).save(tmp_path / "int.tif")
    assert grey(tmp_path / "int.tif") == [[0, 10], [100, 255]]
    Image.fromarray(np.array([[False, True], [True, False]])).save(tmp_path / "bit.png")
    assert grey(tmp_path / "bit.png") == [[0, 255], [255, 0]]
    Image.fromarray(np.array([[0, 65535], [65535, 0]], np.uint16)).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    assert grey(tmp_path / "negative.tif") == [[255, 0], [0, 255]]


def test_colours_of_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", *[0x0A0A, 0x6464, 0xFFFF] * 2)
    (tmp_path / "a.png").write_bytes(png(2, 2, row * 2))
    assert colour(tmp_path / "a.png") == [10, 100, 255]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[20.5, 38.0]], r"holds values from 20\.5 to 38; floating point from 0 to 1 can be scaled"),
        ([[-1.0, 0.5]], "holds values from -1 to 0.5"),
        ([[0.5, float("nan")]], "not a number"),
    ],
)
def test_floats_outside_their_range_are_refused_by_value(tmp_path: Path, values: list[list[float]], words: str) -> None:
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match=words):
        grey(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [
        (1, [[10, 20], [30, 40]]),
        (2, [[20, 10], [40, 30]]),
        (3, [[40, 30], [20, 10]]),
        (4, [[30, 40], [10, 20]]),
        (5, [[10, 30], [20, 40]]),
        (6, [[30, 10], [40, 20]]),
        (7, [[40, 20], [30, 10]]),
        (8, [[20, 40], [10, 30]]),
    ],
)
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, wanted: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.array([[10, 20], [30, 40]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert grey(tmp_path / "a.png") == wanted


def test_a_damaged_exif_block_costs_no_picture(tmp_path: Path) -> None:
    paint(tmp_path / "plain.png", 77)
    with Image.open(tmp_path / "plain.png") as image:
        image.save(tmp_path / "a.jpg", exif=b"Exif\0\0Exif\0\0II*\0no directory", quality=100)
    assert grey(tmp_path / "a.jpg") == [[77, 77], [77, 77]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (2, 2), (0, 0, 0, 51)).save(tmp_path / "veil.png")
    Image.new("LA", (2, 2), (10, 0)).save(tmp_path / "grey.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    palette.save(tmp_path / "solid.gif")
    palette.save(tmp_path / "clear.gif", transparency=1)
    palette.save(tmp_path / "half.png", transparency=bytes([255, 51]))
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert colour(tmp_path / "clear.png") == [255, 255, 255]
    assert colour(tmp_path / "veil.png") == [204, 204, 204]
    assert colour(tmp_path / "grey.png") == [255, 255, 255]
    assert grey(tmp_path / "grey.png") == [[255, 255], [255, 255]]
    assert colour(tmp_path / "solid.gif") == [200, 10, 20]
    assert colour(tmp_path / "clear.gif") == [255, 255, 255]
    assert colour(tmp_path / "half.png") == [244, 206, 208]
    assert colour(tmp_path / "key.png") == [255, 255, 255]


def test_other_colour_spaces_become_red_green_and_blue(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    Image.new("LAB", (2, 2), (255, 128, 128)).save(tmp_path / "lab.tif")
    Image.new("YCbCr", (2, 2), (76, 85, 255)).save(tmp_path / "video.jpg", quality=100)
    assert colour(tmp_path / "print.tif") == [255, 0, 0]
    for name in ("print.jpg", "video.jpg"):
        assert colour(tmp_path / name) == pytest.approx([255, 0, 0], abs=3)
    assert colour(tmp_path / "lab.tif") == pytest.approx([255, 255, 255], abs=2)


@pytest.mark.parametrize("suffix", ["gif", "tif", "png"])
def test_the_first_of_several_frames_is_used_and_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    (tmp_path / "ok").mkdir()
    frames[0].save(tmp_path / "ok" / f"a.{suffix}", save_all=True, append_images=frames[1:])
    data = load(tmp_path)
    assert data.stored().flatten().tolist() == [10] * 4
    assert data.remarks == "only the first frame is used of 1 picture with several"


def test_a_large_jpeg_is_read_at_a_fraction_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = np.zeros((512, 512), np.uint8)
    halves[:, 256:] = 200
    Image.fromarray(halves).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(halves).save(tmp_path / "a.png")
    whole = read_picture(tmp_path / "a.png", 3, (2, 2)).pixels
    monkeypatch.setattr(picture_decoding, "MAX_PIXELS", 100_000)  # all of it would be too much
    picture = read_picture(tmp_path / "a.jpg", 3, (2, 2))
    assert picture.pixels.flatten().tolist() == pytest.approx(whole.flatten().tolist(), abs=3)
    assert picture.stored_size == (512, 512)
    with pytest.raises(PictureError, match="has 512x512 pixels, more than 100,000"):
        grey(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(30_000, 30_000, b""))
    with pytest.raises(PictureError, match=r"a\.png: it has more pixels than"):
        grey(tmp_path / "a.png")


# What power cuts, phones and downloads leave


def encoded(kind: str, tail: Callable[[bytes], bytes]) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, kind)
    return tail(whole.getvalue())


def test_a_whole_jpeg_with_padding_behind_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", lambda b: b + bytes(4096)))
    assert len(grey(tmp_path / "a.jpg")) == 2


@pytest.mark.parametrize(
    "listing",
    [
        "bolt\r\ngrün\r\n".encode("utf-8-sig"),
        "bolt \n\n grün\n\n".encode(),
        unicodedata.normalize("NFD", "bolt\ngrün").encode(),
        "bolt\r\ngrün\r\n".encode("utf-16"),
        "bolt\r\ngrün\r\n".encode("utf-16-le"),
        "bolt\rgrün\r".encode("utf-16-be"),
        "bolt\r\ngrün\r\n".encode("cp1252"),
    ],
)
def test_classes_are_listed_as_any_editor_writes_them(tmp_path: Path, listing: bytes) -> None:
    paint(tmp_path / unicodedata.normalize("NFD", "grün") / "a.png")
    (tmp_path / "Classes.txt").write_bytes(listing)
    data = load(tmp_path)
    assert (data.classes, data.y.tolist()) == (("bolt", "grün"), [1])


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("bolt\nnut\nbolt\n", "names 'bolt' twice, as class 0 and as class 2"),
        ("", "names no class"),
        ("Bolt\n", "bolt is a class that .* does not name; it names 'Bolt'"),
    ],
)
def test_a_wrong_list_of_classes_is_refused_in_one_line(tmp_path: Path, listing: str, words: str) -> None:
    paint(tmp_path / "bolt" / "a.png")
    (tmp_path / "classes.txt").write_text(listing)
    with pytest.raises(DataError, match=words):
        load(tmp_path)
