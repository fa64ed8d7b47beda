"""Log-mel spectrograms of tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.learning.data.sounds.log_mel import log_mel, read_log_mel, shape_of
from fedlp_edge.learning.data.spec import SoundOptions

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
