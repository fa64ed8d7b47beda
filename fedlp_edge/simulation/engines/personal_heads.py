"""This module evaluates personal heads once, at the end of the run.

A personal head is part of no global model, but the device will use it. So at the end each trained one is evaluated with
the global layers, on the classes of its own device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from fedlp_edge.simulation.engines.base import Engine, QueuedJob, run_jobs
from fedlp_edge.simulation.engines.jobs import EvaluatePersonalHead, PersonalHeadEvaluated
from fedlp_edge.simulation.round_jobs import RoundJobs

SAMPLES = 2048
"""Test samples per head, limited because a fleet may have a thousand heads."""

_AT_ONCE = 8
"""Heads per worker that are in memory at the same time."""


def evaluate_personal_heads(
    engine: Engine, round_jobs: RoundJobs, version: int, round: int, stopped: Callable[[], bool]
) -> Iterator[PersonalHeadEvaluated]:
    """Evaluates the personal heads of all devices that have one.

    Args:
        engine: Idle engine.
        round_jobs: Devices and their withheld values.
        version: Version of the global layers.
        round: Number of the last round.
        stopped: Function that returns whether the simulation shall stop.

    Raises:
        SimulationStoppedError: ``stopped()`` returned True.
    """
    waiting = _jobs(round_jobs, version, round)
    while jobs := list(islice(waiting, _AT_ONCE * engine.workers)):
        for reply in run_jobs(engine, jobs, stopped):
            if isinstance(reply, PersonalHeadEvaluated):
                yield reply


def _jobs(round_jobs: RoundJobs, version: int, round: int) -> Iterator[QueuedJob]:
    for device, depth, made in round_jobs.personal_heads_after(round):
        job = EvaluatePersonalHead(device, version, depth, round_jobs.device_values.read(device, made), SAMPLES)
        yield QueuedJob(job, cost=float(round_jobs.blueprint.costs[depth - 1].forward_macs))
