from __future__ import annotations

import pytest
import torch
from torch import Generator

from fedlp_edge.core.augment_settings import AugmentSettings
from fedlp_edge.learning.training.augment_windows import augment_windows, cropped, shifted


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_shifted_moves_a_window_and_fills_the_gap_with_its_end() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]).repeat(64, 2, 1)
    wanted = {(1.0, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0), (2.0, 3.0, 4.0, 4.0)}
    moved = shifted(x, 1, seeded())
    assert {tuple(window[0].tolist()) for window in moved} == wanted
    assert all(window[0].equal(window[1]) for window in moved)


def test_cropped_stretches_a_part_of_a_straight_line_to_a_flatter_one() -> None:
    x = torch.linspace(0, 1, 9).expand(16, 1, 9)
    cut = cropped(x, 0.5, seeded())
    rises = cut[:, 0, -1] - cut[:, 0, 0]
    assert cut.shape == x.shape
    assert rises.min().item() >= 0.5 - 1e-6
    assert rises.max().item() < 1
    assert torch.allclose(cut.diff(dim=-1), (rises / 8).reshape(16, 1, 1).expand(16, 1, 8), atol=1e-6)


def test_cropped_of_the_whole_window_is_the_window() -> None:
    x = torch.randn(3, 2, 7, generator=seeded(1))
    assert torch.allclose(cropped(x, 1.0, seeded()), x, atol=1e-5)


def test_scaling_has_one_factor_for_each_channel() -> None:
    varied = augment_windows(torch.ones(4, 2, 3), AugmentSettings(scaling=0.5), seeded())
    assert varied.equal(varied[:, :, :1].expand(4, 2, 3))
    assert len(varied[:, :, 0].unique()) == 8


def test_jitter_adds_noise_of_the_given_size() -> None:
    noise = augment_windows(torch.zeros(100, 4, 10), AugmentSettings(jitter=0.25), seeded())
    assert noise.std().item() == pytest.approx(0.25, rel=0.05)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("shape", [(5, 3, 8), (5, 3)])
def test_same_seed_gives_the_same_bits(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=seeded(9))
    windows = {"crop": 0.6, "time_shift": 2} if len(shape) == 3 else {}
    settings = AugmentSettings(jitter=0.1, scaling=0.1, **windows)  # type: ignore[arg-type]
    first, again, other = (augment_windows(x, settings, seeded(seed)) for seed in (4, 4, 5))
    assert first.equal(again)
    assert not first.equal(other)
    assert first.shape == x.shape
