"""Limits work that may wait to a share of the time, however long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeShare:
    """Says when such work may be done again: after a pause as many times as long as the work took.

    So work of milliseconds is done nearly whenever it is asked for, and work of seconds waits for minutes.

    Args:
        share: Share of the time that the work may take, above 0 and at most 1.
        clock: Monotonic seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._due_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the work may be done now."""
        return self._clock() >= self._due_at

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measures the work that is done inside, whether it was due or not."""
        began = self._clock()
        yield
        ended = self._clock()
        self._due_at = ended + (ended - began) * (1 / self._share - 1)
