"""Errors of a simulation's workers as replies."""

from __future__ import annotations

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.simulation.engines.job_errors import result_or_failure
from fedlp_edge.simulation.engines.jobs import JobFailed


def test_a_result_is_passed_on() -> None:
    assert result_or_failure(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (DataError("no such data"), "data", "no such data"),
        (MemoryError(), "memory", "memory ran out in a worker: use fewer workers"),
        (ValueError("odd"), "worker", "ValueError: odd"),
    ],
)
def test_an_error_is_a_reply_with_its_kind(error: Exception, kind: str, reason: str) -> None:
    def fail() -> int:
        raise error

    assert result_or_failure(fail) == JobFailed(kind, reason)
