"""Varies windows of time series and rows of tables: noise, factors, cut-outs and shifts, for all samples at once.

The variations are those that Um et al. (arXiv 1706.00527) compare on wearable sensors: jittering, scaling, and window
slicing (Le Guennec et al., 2016), which stretches a part of a window to its whole length.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from fedlp_edge.core.augment_settings import AugmentSettings


def augment_windows(x: Tensor, settings: AugmentSettings, generator: Generator) -> Tensor:
    """Returns varied samples.

    Args:
        x: Normalised windows [B, C, L] or rows of a table [B, F], float32.
        settings: What is varied, and how much.
        generator: Source of all random numbers, on the CPU.
    """
    if settings.crop < 1:
        x = cropped(x, settings.crop, generator)
    if settings.time_shift:
        x = shifted(x, settings.time_shift, generator)
    if settings.scaling:
        factors = 1 + settings.scaling * torch.randn(x.shape[:2], generator=generator)
        x = x * factors.to(x.device).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))
    if settings.jitter:
        x = torch.randn(x.shape, generator=generator).to(x.device).mul_(settings.jitter).add_(x)
    return x


def cropped(x: Tensor, least: float, generator: Generator) -> Tensor:
    """Cuts a random part out of every window and stretches it to the whole length, with linear interpolation.

    Args:
        x: Windows, [B, C, L].
        least: Smallest share of a window that is cut out.
        generator: Source of the lengths and places.
    """
    length = x.shape[-1]
    share = least + (1 - least) * torch.rand(len(x), 1, generator=generator)
    start = (1 - share) * torch.rand(len(x), 1, generator=generator)
    places = (length - 1) * (start + share * torch.linspace(0, 1, length))
    left = places.floor().clamp(0, length - 1)
    between = (places - left).unsqueeze(1).to(x.device)
    before = left.long()
    after = (before + 1).clamp(max=length - 1)
    return _at(x, before).lerp_(_at(x, after), between)


def shifted(x: Tensor, most: int, generator: Generator) -> Tensor:
    """Moves every window by a random number of steps; the gap has the first or the last value.

    Args:
        x: Windows, [B, C, L].
        most: Most steps, in either direction.
        generator: Source of the numbers of steps.
    """
    steps = torch.randint(-most, most + 1, (len(x), 1), generator=generator)
    return _at(x, (torch.arange(x.shape[-1]) - steps).clamp(0, x.shape[-1] - 1))


def _at(x: Tensor, places: Tensor) -> Tensor:
    """Returns the values of windows [B, C, L] at places [B, L] of their own."""
    return x.gather(2, places.to(x.device).unsqueeze(1).expand_as(x))
