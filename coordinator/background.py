"""Runs what waits for the disk beside the coordinator's loop, so that chunks are served while checkpoints are written.

One thing at a time, in the order in which they are asked for. The loop hears of each end through its queue, so
nothing is decided anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskFinished:
    """The inbox item that reports the end of a background task to the loop.

    Attributes:
        then: Function that the loop calls next.
        error: Error that the work raised, for the loop to raise.
    """

    then: Callable[[], None]
    error: BaseException | None = None


class Background:
    """A queue of slow tasks that run one after the other outside of the loop.

    Args:
        executor: Runs one piece at a time.
        report: Function that takes the end of each work, from any thread.
    """

    def __init__(self, executor: Executor, report: Callable[[TaskFinished], None]) -> None:
        self._executor = executor
        self._report = report

    def do(self, work: Callable[[], object], then: Callable[[], None] = lambda: None) -> None:
        """Queues ``work``, which begins when the tasks before it are done.

        Args:
            work: Slow function that touches nothing that the loop changes.
            then: Function that the loop calls afterwards, unless the work raised.
        """

        def report(future: Future[object]) -> None:
            self._report(TaskFinished(then, future.exception()))

        self._executor.submit(work).add_done_callback(report)

    def stop(self) -> None:
        """Waits until all tasks are done."""
        self._executor.shutdown()
