"""What waits for the disk is done in order, and its end comes through the queue."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.background import Background, TaskFinished


def test_does_things_in_order_and_reports_each_end() -> None:
    ends: queue.SimpleQueue[TaskFinished] = queue.SimpleQueue()
    done: list[str] = []
    background = Background(ThreadPoolExecutor(1), ends.put)
    background.do(lambda: done.append("first"), then=lambda: done.append("after first"))
    background.do(lambda: done.append("second"))
    background.stop()
    assert done == ["first", "second"]
    ends.get().then()
    assert done == ["first", "second", "after first"]


def test_hands_over_what_the_work_raised() -> None:
    ends: queue.SimpleQueue[TaskFinished] = queue.SimpleQueue()
    background = Background(ThreadPoolExecutor(1), ends.put)
    background.do(lambda: {}["missing"])
    background.stop()
    with pytest.raises(KeyError, match="missing"):
        raise ends.get().error or AssertionError
