"""No layer may starve: who is likely to be chosen, so that deep layers find enough devices that hold them.

A layer is learned by those of a cohort whose depth reaches it. Where few devices are deep, a cohort that is drawn
evenly may go for many rounds without one of them. Preferring these is steering, not a guarantee, and the price is
that their data count more often.
"""

from __future__ import annotations

from collections.abc import Mapping


def preference(
    depths: Mapping[str, int], size: int, *, prefer_deepest: float = 1.0, least_holders: float = 0.0
) -> dict[str, float] | None:
    """How likely each device is to be the next one chosen, relative to the others.

    For the depths from the shallowest to the deepest: if even draws of ``size`` devices would hold fewer than
    ``least_holders`` of that depth and more, these are preferred by the factor that mends it. With ``N`` devices,
    of which ``n`` hold the layer, a factor f makes the expected number about ``size * f n / (f n + N - n)``.

    Args:
        depths: of the devices that may be chosen.
        size: of the cohort; 0 takes all, and nobody need be preferred.
        prefer_deepest: a factor for devices of the greatest depth among these.
        least_holders: devices of a cohort that should hold each layer, as far as there are so many.

    Returns:
        None if all are the same.
    """
    if not size or size >= len(depths):
        return None
    likely = dict.fromkeys(depths, 1.0)
    for depth in sorted(set(depths.values())):
        holders = [device for device, reached in depths.items() if reached >= depth]
        wanted = min(least_holders, len(holders), size)
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
