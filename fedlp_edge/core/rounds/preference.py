"""Computes how likely devices are drawn for a cohort, so that deep layers are trained often enough.

A layer is trained by the devices of a cohort whose depth reaches it. If few devices are deep, many rounds with even
draws may have none of them. Preferring deep devices makes this rarer but does not exclude it, and their data then count
more often.
"""

from __future__ import annotations

from collections.abc import Mapping


def preference(
    depths: Mapping[str, int], size: int, *, prefer_deepest: float = 1.0, min_holders: float = 0.0
) -> dict[str, float] | None:
    """Returns how likely each device is to be drawn next, relative to the others.

    From the shallowest to the deepest layer: if a cohort of ``size`` devices is expected to have fewer than
    ``min_holders`` devices that hold the layer, these are preferred by the factor that corrects it. With ``N``
    devices, of which ``n`` hold the layer, a factor f makes the expected number about ``size * f n / (f n + N - n)``.

    Args:
        depths: Depth of each device that may be drawn, by id.
        size: Size of the cohort; 0 takes all devices, so that none is preferred.
        prefer_deepest: Additional factor for devices of the greatest depth in ``depths``.
        min_holders: Devices of a cohort that should hold each layer, if there are that many.

    Returns:
        Relative likelihood by device id; None if it is equal for all.
    """
    if not size or size >= len(depths):
        return None
    likely = dict.fromkeys(depths, 1.0)
    for depth in sorted(set(depths.values())):
        holders = [device for device, reached in depths.items() if reached >= depth]
        wanted = min(min_holders, len(holders), size)
        inside = sum(likely[device] for device in holders)
        outside = sum(likely.values()) - inside
        if wanted >= size or not outside or size * inside / (inside + outside) >= wanted:
            continue
        factor = wanted * outside / ((size - wanted) * inside)
        likely.update({device: likely[device] * factor for device in holders})
    if prefer_deepest != 1:
        deepest = max(depths.values(), default=0)
        likely.update({d: value * prefer_deepest for d, value in likely.items() if depths[d] == deepest})
    return None if set(likely.values()) <= {1.0} else likely
