"""Tests of samples that are made of listed sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.target_values import Targets
from fedlp_edge.learning.data.sounds.sound_samples import SoundList, sound_samples
from fedlp_edge.learning.data.spec.parsing import parse_spec
from tests.learning.data.sounds.test_sound_reader import wave


def listed(root: Path, *contents: bytes) -> SoundList:
    files = [root / f"{number}.wav" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    names = [file.name for file in files]
    return SoundList(files, names, names, Targets(np.arange(len(files)), ("a", "b", "c"), "class"), "of a list")


@pytest.mark.parametrize("cache", ["", "&cache=0"])
def test_sounds_are_the_same_whether_they_fit_into_memory_or_not(tmp_path: Path, cache: str) -> None:
    found = listed(tmp_path, wave(200), wave(500), wave(3000))
    spec = parse_spec(f"audiofolder:{tmp_path}#rate=8000&seconds=0.1&mels=4{cache}")
    made = sound_samples(found, spec, np.array([2, 0]))
    assert isinstance(made.x, np.ndarray) == (not cache)
    assert made.array[:, 0].mean(axis=2).argmax(axis=1).tolist() == [3, 0]
    assert (made.y.tolist(), made.index.tolist(), made.remarks) == ([2, 0], [2, 0], "of a list")


def test_sounds_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    spec = parse_spec(f"audiofolder:{tmp_path}")
    with pytest.raises(DataError, match=r"none of its sounds can be read"):
        sound_samples(listed(tmp_path, b"", b""), spec, None)
