"""This module numbers the groups of samples, such as persons or machines, so that all devices number them alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def numbered_groups(names: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Numbers groups in the order of their names, whole numbers by their value and before all other names.

    Args:
        names: Name of the group of each of N samples or series.

    Returns:
        Number of the group of each, int64 [N], and the names by number.
    """
    ordered = sorted(set(names), key=_natural)
    number = {name: index for index, name in enumerate(ordered)}
    return np.asarray([number[name] for name in names], np.int64), tuple(ordered)


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isascii() and name.isdecimal() else (1, 0, name)
