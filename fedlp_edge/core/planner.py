"""Which depth and which layer-preserving rate a device gets: one pure function.

The deepest prefix wins whose training fits the device's memory and whose round fits the deadline. Each choice
comes with one line that says why not deeper.
"""

from __future__ import annotations

import msgspec

from fedlp_edge.core.blueprint import Blueprint, DepthCost
from fedlp_edge.core.devices import DeviceFacts
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings

MEMORY_FACTOR = 1.7
"""What a process really takes over the analytical sum on a CPU: allocator, oneDNN workspaces, thread pools.
Measured ratios run from 1.1 to 1.7; being killed costs more than one depth less, so the highest one."""

MEMORY_FLOOR = 1 << 20
"""Bytes that any training step takes, however small the model."""

TIME_SHARE = 0.8
"""Share of the deadline that a plan may fill; the rest is for queues, evaluation of the link, bad luck."""

MIN_AUTO_LPR = 0.1
"""With ``lpr = "auto"``, a link too slow for this rate costs depth instead: rates below it starve layers."""

BACKWARD_AND_FORWARD = 3
"""Training MACs per forward MAC: the backward pass computes two products per forward one."""

_OPTIMIZER_SLOTS = {"sgd": 1, "adam": 2}


class Plan(msgspec.Struct, frozen=True):
    """What a device is to do.

    Attributes:
        depth: 0 if it cannot bear even depth 1.
        lpr: layer-preserving rate of every layer.
        explanation: one line for people.
        memory_bytes: predicted for training.
        seconds: predicted for a round, transfers included; 0 if the device's speed is unknown.
    """

    depth: int
    lpr: float
    explanation: str
    memory_bytes: int
    seconds: float


def training_memory(cost: DepthCost, training: TrainingSettings) -> int:
    """Bytes that training a depth takes on top of the idle worker.

    Weights, their copy from before training, gradients and optimiser state (float32 each), and the activations of
    one batch, times ``MEMORY_FACTOR``.
    """
    slots = _OPTIMIZER_SLOTS[training.optimizer] if training.optimizer == "adam" or training.momentum else 0
    state = 4 * cost.parameters * (3 + slots)
    return int(MEMORY_FACTOR * (state + training.batch_size * cost.activation_bytes)) + MEMORY_FLOOR


def plan(
    facts: DeviceFacts,
    blueprint: Blueprint,
    scheme: SchemeSettings,
    training: TrainingSettings,
    deadline_seconds: float,
) -> Plan:
    """Chooses for one device.

    Args:
        facts: its latest report.
        blueprint: of the model, with the cost of every depth.
        scheme: rules of the run; ``depth = "auto"`` plans, anything else dictates.
        training: batch size, epochs and optimiser enter memory and time.
        deadline_seconds: of a round.

    Returns:
        The plan; ``depth`` 0 with the reason if nothing fits.
    """
    if scheme.depth != "auto":
        depth = blueprint.full_depth if scheme.depth == "full" else min(scheme.depth, blueprint.full_depth)
        lpr, seconds, _ = _time(facts, blueprint, depth, scheme, training, deadline_seconds)
        why = f"depth {depth} of {blueprint.full_depth} for every device, as configured"
        return Plan(depth, lpr, why, training_memory(blueprint.costs[depth - 1], training), seconds)
    too_deep = ""
    for depth in reversed(blueprint.depths):
        memory = training_memory(blueprint.costs[depth - 1], training)
        if memory > facts.training_memory:
            too_deep = (
                f"depth {depth} needs {_mb(memory)} of memory, {_mb(facts.training_memory)} are free for training"
            )
            continue
        lpr, seconds, late = _time(facts, blueprint, depth, scheme, training, deadline_seconds)
        if late:
            too_deep = (
                f"depth {depth} takes {seconds:.0f} s, {TIME_SHARE * deadline_seconds:.0f} s are planned for a round"
            )
            continue
        return Plan(depth, lpr, _explain(blueprint, depth, lpr, memory, facts, seconds, too_deep), memory, seconds)
    return Plan(0, 0.0, f"nothing fits: {too_deep}", 0, 0.0)


def _time(
    facts: DeviceFacts,
    blueprint: Blueprint,
    depth: int,
    scheme: SchemeSettings,
    training: TrainingSettings,
    deadline_seconds: float,
) -> tuple[float, float, bool]:
    """Layer-preserving rate, predicted seconds of a round, and whether that is too long."""
    budget = TIME_SHARE * deadline_seconds
    macs = BACKWARD_AND_FORWARD * blueprint.costs[depth - 1].forward_macs * facts.samples * training.epochs
    compute = macs / facts.training_macs_per_second if facts.training_macs_per_second else 0.0
    nbytes = sum(unit.nbytes for unit in blueprint.exchanged_by(depth))
    one_way = nbytes / facts.link_bytes_per_second if facts.link_bytes_per_second else 0.0
    if scheme.lpr == "auto":
        room = (budget - compute - one_way) / one_way if one_way else 1.0
        # Steps of 0.05 keep a plan stable against small changes of a measured link.
        lpr = min(1.0, max(MIN_AUTO_LPR, int(room * 20) / 20))
    else:
        lpr = scheme.lpr
    seconds = compute + one_way * (1 + lpr)
    return lpr, seconds, seconds > budget


def _explain(
    blueprint: Blueprint, depth: int, lpr: float, memory: int, facts: DeviceFacts, seconds: float, too_deep: str
) -> str:
    parts = [f"depth {depth} of {blueprint.full_depth}: {_mb(memory)} of {_mb(facts.training_memory)}"]
    if seconds:
        parts.append(f"{seconds:.1f} s a round")
    if lpr < 1:
        parts.append(f"uploads {lpr:.0%} of its layers")
    return ", ".join(parts) + (f"; {too_deep}" if too_deep else "")


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:.0f} MB" if nbytes >= 10_000_000 else f"{nbytes / 1e6:.1f} MB"
