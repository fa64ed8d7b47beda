"""Tests of reading listed sounds when they are needed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.learning.data.readers.sample_keys import keys_of_names
from fedlp_edge.learning.data.sounds.sound_reader import SoundReader
from fedlp_edge.learning.data.spec.data_spec import SoundOptions

wavfile = pytest.importorskip("scipy.io.wavfile")

OPTIONS = SoundOptions(rate=8000, seconds=0.1, mels=4)
SILENCE = float(np.float32(np.log(1e-6)))


def wave(hertz: float) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, 8000, np.sin(2 * np.pi * hertz * np.arange(800) / 8000).astype(np.float32))
    return file.getvalue()


def reader_of(root: Path, wanted: list[int], *contents: bytes) -> SoundReader:
    files = [root / f"{number}.wav" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    names = [f"name {number}" for number in range(len(contents))]
    shown = [f"row {number}" for number in range(len(contents))]
    return SoundReader(files, names, shown, np.array(wanted), OPTIONS, "here")


def test_the_wanted_sounds_are_read_at_their_positions_and_named_by_their_names(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, [2, 0], wave(200), wave(500), wave(3000))
    assert len(reader) == 2
    low, high = reader.read(np.array([1, 0]))
    assert (int(low[0].mean(axis=1).argmax()), int(high[0].mean(axis=1).argmax())) == (0, 3)
    assert reader.keys(np.array([0, 1])).tolist() == keys_of_names(["name 2", "name 0"]).tolist()
    assert reader.take_note() == ""


def test_silence_stands_for_a_damaged_sound_and_is_told_once(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, [1, 0], wave(200), b"")
    made = reader.read(np.array([0, 1]))
    assert np.unique(made[0]).tolist() == [SILENCE]
    assert made[1].max() > SILENCE
    note = "1 of 2 sounds cannot be read, the first is row 1 is empty; silence stands for them"
    assert [reader.take_note(), reader.take_note()] == [note, ""]
