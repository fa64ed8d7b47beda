"""Personal heads, judged once, when the run is over.

A head that never leaves its device is part of no global model, yet it is what the device will use. So at the end each
one that has learned something is put behind the global layers and judged on the classes of its own device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from fedlp_edge.simulation.engine import Engine, Job, carry_out
from fedlp_edge.simulation.orders import JudgeOwn, OwnJudged
from fedlp_edge.simulation.shift import Shift

SAMPLES = 2048
"""Of the test set, for each head: a fleet may have a thousand of them."""

_AT_ONCE = 8
"""Heads a worker that are in memory together."""


def judge_own_heads(
    engine: Engine, shift: Shift, version: int, round: int, stopped: Callable[[], bool]
) -> Iterator[OwnJudged]:
    """Judges the heads of all devices that have one of their own.

    Args:
        engine: at rest.
        shift: knows the devices and what stays on them.
        version: of the global layers.
        round: that is over.
        stopped: as for ``carry_out``.

    Raises:
        Stopped: once ``stopped()`` says so.
    """
    waiting = _orders(shift, version, round)
    while jobs := list(islice(waiting, _AT_ONCE * engine.workers)):
        for reply in carry_out(engine, jobs, stopped):
            if isinstance(reply, OwnJudged):
                yield reply


def _orders(shift: Shift, version: int, round: int) -> Iterator[Job]:
    for device, depth, made in shift.own_heads(round):
        order = JudgeOwn(device, version, depth, shift.keepsakes.read(device, made), SAMPLES)
        yield Job(order, cost=float(shift.blueprint.costs[depth - 1].forward_macs))
