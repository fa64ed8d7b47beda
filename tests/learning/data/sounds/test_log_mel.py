"""Log-mel spectrograms of tones."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fedlp_edge.learning.data.sounds.log_mel import SoundError, log_mel, read_log_mel, shape_of
from fedlp_edge.learning.data.spec.data_spec import SoundOptions

wavfile = pytest.importorskip("scipy.io.wavfile")


OPTIONS = SoundOptions(rate=8000, seconds=0.5, mels=16)


def tone(hertz: float, rate: int = 8000, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def save(path: Path, wave: np.ndarray, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, wave)
    return path


def loudest(picture: np.ndarray) -> int:
    return int(picture[0].mean(axis=1).argmax())


def test_a_higher_tone_is_in_a_higher_band() -> None:
    bands = [loudest(log_mel(tone(hertz), OPTIONS)) for hertz in (200, 600, 1500, 3500)]
    assert bands == sorted(set(bands))
    assert log_mel(tone(200), OPTIONS).shape == shape_of(OPTIONS)


def test_a_constant_tone_is_the_same_at_all_times_and_silence_is_the_floor() -> None:
    inner = log_mel(tone(1000), OPTIONS)[0, loudest(log_mel(tone(1000), OPTIONS)), 3:-3]
    assert np.ptp(inner) < 0.05
    assert log_mel(np.zeros(4000, np.float32), OPTIONS).max() == pytest.approx(np.log(1e-6))


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8])
def test_whole_numbers_are_scaled_by_their_type(tmp_path: Path, kind: type) -> None:
    info = np.iinfo(kind)
    middle, scale = (128, 127) if kind is np.uint8 else (0, info.max)
    path = save(tmp_path / "a.wav", (middle + tone(1000).astype(np.float64) * scale * 0.99).astype(kind))
    made = read_log_mel(path, OPTIONS)
    band = loudest(made)
    assert made[0, band].mean() == pytest.approx(log_mel(tone(1000), OPTIONS)[0, band].mean(), abs=0.1)


def test_another_rate_and_two_channels_give_nearly_the_same(tmp_path: Path) -> None:
    wave = tone(1000, 16000)
    made = read_log_mel(save(tmp_path / "a.wav", np.stack([wave, wave], axis=1), 16000), OPTIONS)
    assert loudest(made) == loudest(log_mel(tone(1000), OPTIONS))


def test_a_sound_whose_values_or_length_are_not_what_its_header_says_is_left_out(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.wav", (tone(600) * 9000).astype(np.int16)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:2000])
    with pytest.raises(SoundError, match="is cut short"):
        read_log_mel(tmp_path / "cut.wav", OPTIONS)
    streamed = whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:]  # a stream, of no known length
    (tmp_path / "stream.wav").write_bytes(streamed)
    assert np.array_equal(read_log_mel(tmp_path / "stream.wav", OPTIONS), read_log_mel(tmp_path / "a.wav", OPTIONS))
    with pytest.raises(SoundError, match=r"holds values up to (9000|8999.*), where floating point goes from -1 to 1"):
        read_log_mel(save(tmp_path / "float.wav", tone(600) * 9000), OPTIONS)


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\x24\0\0\0"])
def test_a_recorder_that_never_wrote_the_length_loses_no_sound(tmp_path: Path, size: bytes) -> None:
    whole = save(tmp_path / "a.wav", (tone(600) * 9000).astype(np.int16)).read_bytes()
    (tmp_path / "killed.wav").write_bytes(whole[:4] + size + whole[8:40] + b"\0" * 4 + whole[44:] + b"\x01")
    assert np.array_equal(read_log_mel(tmp_path / "killed.wav", OPTIONS), read_log_mel(tmp_path / "a.wav", OPTIONS))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"\0" * 500, "holds only zeros: it was never written")]
)
def test_a_file_without_a_sound_is_called_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(SoundError, match=f"it {reason}$"):
        read_log_mel(tmp_path / "a.wav", OPTIONS)


def test_a_sound_of_another_kind_that_is_called_wav_is_read_by_soundfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(b"ID3\x04" + bytes(range(200)))
    monkeypatch.setitem(sys.modules, "soundfile", SimpleNamespace(read=lambda file, dtype: (tone(600), 8000)))
    assert np.array_equal(read_log_mel(tmp_path / "a.wav", OPTIONS), log_mel(tone(600), OPTIONS))


def test_a_compressed_wave_file_is_read_by_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "telephone.wav", (tone(600) * 100).astype(np.int16))
    path.write_bytes(path.read_bytes().replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x07\0"))  # mu-law
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(SoundError, match=r"needs soundfile: .* or save it as WAV with PCM samples"):
        read_log_mel(path, OPTIONS)
    monkeypatch.setitem(sys.modules, "soundfile", SimpleNamespace(read=lambda file, dtype: (tone(600), 8000)))
    assert np.array_equal(read_log_mel(path, OPTIONS), log_mel(tone(600), OPTIONS))
