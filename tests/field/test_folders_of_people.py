"""Folders of pictures and sounds as telephones, cameras and mounted disks leave them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data


def pictures(root: Path, *classes: str) -> Path:
    for green, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 4), (number * 50, green * 50, 0)).save(root / name / f"{number}.png")
    return root


def load(source: str, root: Path) -> Dataset:
    return load_data(f"{source}:{root}#holdout=0" + ("&size=2" if source == "imagefolder" else ""))


def test_pictures_of_telephones_that_are_not_read_say_what_to_do(tmp_path: Path) -> None:
    root = pictures(tmp_path, "ok", "rust")
    (root / "rust" / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert load("imagefolder", root).remarks == (
        "left out: 1 file of other kinds (1 .heic: convert HEIC and raw pictures to JPEG)"
    )
    for picture in root.rglob("*.png"):
        picture.unlink()
    with pytest.raises(DataError, match=r"1 \.heic: convert HEIC and raw pictures to JPEG"):
        load("imagefolder", root)


def test_films_and_files_without_a_suffix_say_what_to_do(tmp_path: Path) -> None:
    root = pictures(tmp_path, "ok", "rust")
    (root / "rust" / "IMG_0001.MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
    (root / "ok" / "one").write_bytes(b"")
    assert load("imagefolder", root).remarks == (
        "left out: 2 files of other kinds (1 without suffix; 1 .mov: save frames of films as pictures, "
        "give those without a suffix the one of their kind)"
    )


def test_class_folders_that_differ_in_capitals_are_named(tmp_path: Path) -> None:
    data = load("imagefolder", pictures(tmp_path, "Rust", "ok", "rust"))
    assert data.classes == ("Rust", "ok", "rust")
    assert data.remarks == "classes that differ in capitals alone count as different: Rust, rust"


def test_linked_folders_of_sounds_are_followed_and_circles_end(tmp_path: Path) -> None:
    disk, root = tmp_path / "disk", tmp_path / "sounds"
    for name in ("yes", "no"):
        (disk / name).mkdir(parents=True)
        with wave.open(str(disk / name / "one.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((np.arange(16_000) % 100).astype("<i2").tobytes())
    root.mkdir()
    (root / "yes").symlink_to(disk / "yes")
    (root / "no").symlink_to(disk / "no")
    (disk / "no" / "again").symlink_to(disk / "no")
    (root / "__MACOSX").mkdir()
    data = load("audiofolder", root)
    assert (data.classes, data.y.tolist()) == (("no", "yes"), [0, 1])
