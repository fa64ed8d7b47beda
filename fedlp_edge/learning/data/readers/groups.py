"""This module finds out whose each sample is, a speaker's or a machine's, and numbers these groups.

Files in folders tell it by their paths, all others by what their source says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.system.printable import counted

_SHOWN = 6  # groups in a message


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


def groups_by_path(paths: Sequence[str], pattern: str, origin: str) -> list[str]:
    """Returns the name of the group of each file; empty where its path has none.

    Args:
        paths: Paths of the files below their folder.
        pattern: Regular expression whose first match in a path is the group, or the first part of it in parentheses.
        origin: What the files are called in messages.

    Raises:
        DataError: The pattern is none, or matches nothing.
    """
    example = f", such as {paths[0]!r}" if paths else ""
    try:
        found = [re.search(pattern, path) for path in paths]
    except re.error as error:
        raise DataError(
            f"{origin}: group={pattern} is no regular expression ({error}); it is looked for in paths{example}"
        ) from None
    if paths and not any(found):
        raise DataError(
            f"{origin}: group={pattern} is neither a column of a labels.csv nor matches a path{example}: write a "
            "regular expression whose part in parentheses is the group, such as ([^/_]+)_"
        )
    return [(match[1] if match.re.groups else match[0]) or "" if match else "" for match in found]


def are_of_groups(groups: Sequence[str], only: Sequence[str], origin: str) -> npt.NDArray[np.bool_]:
    """Returns which of N samples are of some groups, [N].

    Args:
        groups: Name of the group of each; empty for none.
        only: Names of the groups.
        origin: What the samples are called in messages.

    Raises:
        DataError: No sample is of one of these groups.
    """
    known = sorted({group for group in groups if group})
    if unknown := [name for name in only if name not in known]:
        some = ", ".join(known[:_SHOWN]) or "none"
        raise DataError(f"{origin} has no group {unknown[0]!r}: it has {some}{', ...' if len(known) > _SHOWN else ''}")
    return np.isin(np.asarray(groups), only)


def grouped(listing: SampleListing, groups: Sequence[str], only: Sequence[str], origin: str) -> SampleListing:
    """Returns a listing of the samples that have a group.

    Args:
        listing: Of N samples.
        groups: Name of the group of each; empty for none.
        only: Names of the groups that are wanted; empty for all.
        origin: What the samples are called in messages.

    Raises:
        DataError: No sample has a group, or one of ``only``.
    """
    chosen = np.flatnonzero(are_of_groups(groups, only, origin) if only else [bool(group) for group in groups])
    without = sum(not group for group in groups)
    remark = f"left out: {counted(without, 'file')} without a group" if without else ""
    numbers, names = numbered_groups([groups[index] for index in chosen.tolist()])

    def samples(keep: Indices | None) -> Samples:
        made = listing.samples(chosen if keep is None else chosen[keep])
        remarks = "; ".join(filter(None, (made.remarks, remark)))
        return replace(made, index=np.searchsorted(chosen, made.index), remarks=remarks)

    return replace(listing, labels=listing.labels[chosen], samples=samples, groups=numbers, group_names=names)
