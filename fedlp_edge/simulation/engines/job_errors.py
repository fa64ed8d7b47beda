"""This module turns the errors of a worker into replies of one line with the kind of the error."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from fedlp_edge.errors import FedLPError
from fedlp_edge.learning.memory import limits
from fedlp_edge.simulation.engines.jobs import FAMILIES, JobFailed

T = TypeVar("T")


def result_or_failure(work: Callable[[], T]) -> T | JobFailed:
    """Calls a function; any error becomes a ``JobFailed`` reply, and a defect of this program logs its traceback."""
    try:
        return work()
    except FedLPError as error:
        return JobFailed(next((kind for kind, family in FAMILIES if isinstance(error, family)), "worker"), str(error))
    except Exception as error:
        if limits.is_out_of_memory(error):
            return JobFailed("memory", "memory ran out in a worker: use fewer workers")
        traceback.print_exc(file=sys.stderr)
        return JobFailed("worker", f"{type(error).__name__}: {error}")
