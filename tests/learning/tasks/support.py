"""What tests of several tasks need."""

from __future__ import annotations

from torch import Tensor


def numbers(sums: dict[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Sums as they travel."""
    return {name: tuple(values.tolist()) for name, values in sums.items()}
