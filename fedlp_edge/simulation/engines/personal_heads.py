"""Personal heads, judged once, when the run is over.

A head that never leaves its device is part of no global model, yet it is what the device will use. So at the end each
one that has learned something is put behind the global layers and judged on the classes of its own device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from fedlp_edge.simulation.engines.base import Engine, QueuedJob, carry_out
from fedlp_edge.simulation.engines.jobs import EvaluatePersonalHead, PersonalHeadEvaluated
from fedlp_edge.simulation.round_jobs import RoundJobs

SAMPLES = 2048
"""Of the test set, for each head: a fleet may have a thousand of them."""

_AT_ONCE = 8
"""Heads a worker that are in memory together."""


def evaluate_personal_heads(
    engine: Engine, round_jobs: RoundJobs, version: int, round: int, stopped: Callable[[], bool]
) -> Iterator[PersonalHeadEvaluated]:
    """Judges the heads of all devices that have one of their own.

    Args:
        engine: at rest.
        round_jobs: knows the devices and what stays on them.
        version: of the global layers.
        round: that is over.
        stopped: as for ``carry_out``.

    Raises:
        Stopped: once ``stopped()`` says so.
    """
    waiting = _orders(round_jobs, version, round)
    while jobs := list(islice(waiting, _AT_ONCE * engine.workers)):
        for reply in carry_out(engine, jobs, stopped):
            if isinstance(reply, PersonalHeadEvaluated):
                yield reply


def _orders(round_jobs: RoundJobs, version: int, round: int) -> Iterator[QueuedJob]:
    for device, depth, made in round_jobs.own_heads(round):
        job = EvaluatePersonalHead(device, version, depth, round_jobs.device_values.read(device, made), SAMPLES)
        yield QueuedJob(job, cost=float(round_jobs.blueprint.costs[depth - 1].forward_macs))
