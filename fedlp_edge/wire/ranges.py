"""This module handles sets of chunk numbers as half-open ranges, in which a peer names its missing chunks.

The ranges of a message come from the network: two numbers can name 2**53 chunks. So time and memory here are bounded
by the length of the list and the number of chunks that really exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Ranges = tuple[tuple[int, int], ...]


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """Returns the fewest ranges, in order, that hold these numbers: ``{1, 2, 5}`` gives ``((1, 3), (5, 6))``."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return tuple(found)


def clip(ranges: Iterable[tuple[int, int]], count: int) -> Ranges:
    """Returns the ranges limited to numbers below ``count``: sorted, merged, without empty ranges."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted((max(0, start), min(stop, count)) for start, stop in ranges):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)


def expand(ranges: Iterable[tuple[int, int]], count: int) -> Iterator[int]:
    """Yields every number below ``count`` that the ranges name, once, in order."""
    for start, stop in clip(ranges, count):
        yield from range(start, stop)


def take(ranges: Ranges, limit: int) -> tuple[Ranges, Ranges]:
    """Splits ranges after their first ``limit`` numbers; returns those numbers and the rest, as ranges."""
    taken: list[tuple[int, int]] = []
    for position, (start, stop) in enumerate(ranges):
        if limit <= 0:
            return tuple(taken), ranges[position:]
        cut = min(stop, start + limit)
        taken.append((start, cut))
        limit -= cut - start
        if cut < stop:
            return tuple(taken), ((cut, stop), *ranges[position + 1 :])
    return tuple(taken), ()
