from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.sources import list_samples
from fedlp_edge.learning.data.spec.parsing import parse_spec

wavfile = pytest.importorskip("scipy.io.wavfile")


def tone(hertz: float, rate: int = 8000, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def save(path: Path, wave: np.ndarray, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, wave)
    return path


def load(root: Path, options: str = "") -> Dataset:
    return load_data(f"audiofolder:{root}#rate=8000&seconds=.5&mels=16&holdout=0{options}".replace("=.5", "=0.5"))


def test_folders_are_classes_and_what_does_not_fit_is_the_same(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "low" / f"{number}.wav", tone(200 + number))
        save(tmp_path / "high" / f"{number}.wav", tone(2000 + number))
    eager, lazy = load(tmp_path), load(tmp_path, "&cache=0")
    assert (eager.classes, eager.y.tolist()) == (("high", "low"), [0] * 4 + [1] * 4)
    assert eager.in_memory
    assert not lazy.in_memory
    assert lazy.stored().equal(eager.stored())


def test_splits_have_the_names_that_those_of_pictures_have_and_stand_above_the_classes(tmp_path: Path) -> None:
    for name in ("low", "high"):
        save(tmp_path / "above" / "Train" / name / "0.wav", tone(200))
        save(tmp_path / "above" / "val" / name / "1.wav", tone(200))
        save(tmp_path / "inside" / name / "train" / "0.wav", tone(200))
        save(tmp_path / "inside" / name / "test" / "1.wav", tone(200))
    above, inside = load(tmp_path / "above"), load(tmp_path / "inside")
    assert (above.classes, len(above), above.remarks) == (("high", "low"), 2, "")
    assert (inside.classes, len(inside)) == (("high", "low"), 4)
    assert inside.remarks.startswith("train and test inside the folders of classes are taken together")


def test_the_noise_of_the_speech_commands_is_no_class(tmp_path: Path) -> None:
    for name in ("yes", "no", "_background_noise_"):
        save(tmp_path / name / "0.wav", tone(200))
    data = load(tmp_path)
    assert (data.classes, len(data)) == (("no", "yes"), 2)
    assert data.remarks == "left out: 1 sound of _background_noise_"


@pytest.mark.parametrize(
    ("folders", "remark"),
    [
        (("audio/dog", "audio/rain"), "the folders in audio count as one class: name audio itself if they are the"),
        (("dog", "Dog"), "classes that differ in capitals alone count as different: Dog, dog"),
        (("dog/monday", "dog/tuesday", "rain"), ""),
    ],
)
def test_classes_that_look_like_a_mistake_are_named(tmp_path: Path, folders: tuple[str, ...], remark: str) -> None:
    for name in folders:
        save(tmp_path / name / "0.wav", tone(200))
    said = load(tmp_path).remarks
    assert said.startswith(remark)
    assert bool(said) == bool(remark)


def test_labels_come_from_a_list(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(200))
    save(tmp_path / "b.wav", tone(300))
    (tmp_path / "labels.csv").write_text("file;labels\na.wav;hum|whistle\nb.wav;hum\n")
    data = load(tmp_path)
    assert (data.targets, data.classes, data.y.tolist()) == ("labels", ("hum", "whistle"), [[1, 1], [1, 0]])


def test_sounds_of_kinds_that_are_not_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "memo.M4A").write_bytes(b"")
    said = r"1 sound that is not read \(\.m4a: convert them to WAV or FLAC\)"
    with pytest.raises(DataError, match=rf"holds no sounds in folders of classes: {said}; it needs CLASS"):
        load(tmp_path)
    save(tmp_path / "low" / "0.wav", tone(200))
    save(tmp_path / "low" / "1.wav", tone(200))
    assert re.fullmatch(f"left out: {said}", load(tmp_path).remarks)


def test_files_of_other_kinds_in_the_folders_of_classes_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "low" / "0.wav", tone(200))
    save(tmp_path / "high" / "0.wav", tone(2000))
    for name in ("low/1.raw", "low/2", "low/.DS_Store", "README.md", "_background_noise_/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert load(tmp_path).remarks == "left out: 2 files of other kinds (1 .raw; 1 without suffix)"


@pytest.mark.parametrize(("suffix", "kind"), [(".au", "AU"), (".caf", "CAF"), (".W64", "W64"), (".aifc", "AIFF")])
def test_sounds_of_rarer_kinds_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = save(tmp_path / "low" / "0.wav", tone(200))
    soundfile.write(tmp_path / "low" / f"1{suffix}", *soundfile.read(wave), format=kind, subtype="FLOAT")
    data = load(tmp_path)
    assert (len(data), data.remarks) == (2, "")
    first, second = data.stored()
    assert first.allclose(second, atol=1e-3)


def test_a_damaged_file_is_silence_and_too_many_are_refused(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "low" / f"{number}.wav", tone(200))
    (tmp_path / "low" / "3.wav").write_bytes(b"RIFFnothing")
    assert "1 of 8 sounds cannot be read, the first is low/3.wav is damaged" in load(tmp_path).remarks
    for number in range(5):
        (tmp_path / "low" / f"{number}.wav").write_bytes(b"")
    with pytest.raises(DataError, match="sounds cannot be read"):
        load(tmp_path)


def test_a_folder_of_damaged_files_alone_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "low" / "0.wav", tone(200)).write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"none of its sounds can be read, the first is low/0\.wav is damaged"):
        load(tmp_path)


def test_the_speech_commands_own_list_of_tests_is_the_test_split(tmp_path: Path) -> None:
    for name in ("no/a_nohash_0", "no/b_nohash_0", "yes/a_nohash_0", "yes/b_nohash_0"):
        save(tmp_path / f"{name}.wav", tone(200))
    (tmp_path / "testing_list.txt").write_text("no/b_nohash_0.wav\nyes/b_nohash_0.wav\nyes/gone.wav\n")
    for split, speaker in (("train", "a"), ("test", "b")):
        listing = list_samples(parse_spec(f"audiofolder:{tmp_path}#group=([^/]+)_nohash"), split)
        assert (listing.group_names, listing.labels.tolist()) == ((speaker,), [0, 1])
