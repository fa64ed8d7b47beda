"""What of a model fits a device's memory in the comparison of schemes, by the planner's prediction.

A device of tier k has as much memory as training the front k layers takes with a small pooled head on each of them, as
DepthFL does, and a twentieth more; every other scheme trains the largest part of its model that fits there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from fedlp_edge.core.planning.prediction import device_memory
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.learning.profiling.step_trace import with_step_costs
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import Experiment

MODEL = "fedlp-cnn-narrow"
"""What all schemes divide; a rival's model is made of it."""

MARGIN = 1.05
"""Memory of a tier over what DepthFL takes there, so that heads of a few kilobytes more do not decide."""


@lru_cache(maxsize=64)
def peaks(model: ModelSettings, batch_size: int, optimizer: str) -> tuple[int, ...]:
    """Bytes that training takes at its highest moment, on top of the idle worker, by depth or level.

    Args:
        model: which.
        batch_size: samples of a step.
        optimizer: of the devices.
    """
    built = build_model(model, seed=0, allow_models=None)
    blueprint = with_step_costs(built, built.blueprint(model.name))
    training = msgspec.convert({"batch_size": batch_size, "optimizer": optimizer}, TrainingSettings)
    return tuple(device_memory(blueprint, depth, training) for depth in blueprint.depths)


def peaks_of(wanted: Experiment) -> tuple[int, ...]:
    """Bytes at the highest moment of an experiment's devices, by depth or level."""
    training = wanted.training
    return peaks(wanted.model.without_names, training.batch_size, training.optimizer)


def tier_memory(wanted: Experiment) -> tuple[int, ...]:
    """Bytes that the devices of each tier have, weakest first."""
    model = ModelSettings(name=MODEL, input=wanted.model.input, exits="all", exit_heads="pooled")
    needed = peaks(model, wanted.training.batch_size, wanted.training.optimizer)
    return tuple(int(MARGIN * peak) for peak in needed)


def largest_that_fits(memory: Sequence[int], needed: Sequence[int]) -> tuple[int, ...]:
    """The largest depth or level that fits each tier.

    Args:
        memory: bytes of each tier.
        needed: bytes that each depth or level takes.

    Returns:
        By tier; 0 for nothing.
    """
    return tuple(
        max((level for level, peak in enumerate(needed, start=1) if peak <= least), default=0) for least in memory
    )


def memory_shares(wanted: Experiment, mix: Sequence[float]) -> tuple[float, ...]:
    """Share of the devices that train each depth or level of an experiment's model, if memory decides.

    Args:
        wanted: whose model it is.
        mix: share of the devices in each tier.

    Raises:
        ValueError: a tier has no room for any part of the model.
    """
    needed = peaks_of(wanted)
    if wanted.scheme.depth == "only-full":
        # A device without room for the whole model takes no part, so it does not matter what else it could bear.
        needed = (0,) * (len(needed) - 1) + needed[-1:]
    levels = largest_that_fits(tier_memory(wanted), needed)
    if 0 in levels:
        raise ValueError(f"the model of {wanted.recipe} does not fit tier {levels.index(0) + 1}")
    shares = [0.0] * len(needed)
    for level, share in zip(levels, mix, strict=True):
        shares[level - 1] += share
    return tuple(shares)
