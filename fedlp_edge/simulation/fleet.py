"""This module makes the virtual devices of a simulation, each with a profile and a plan.

The planner is that of real fleets; it gets the figures of a profile instead of a device's own report. Neither these
figures nor the plans change during a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.seeds import uniform
from fedlp_edge.errors import ConfigError
from fedlp_edge.probe.expected import expected_facts
from fedlp_edge.probe.profiles import find_profile
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.simulated_data import DataAssignment

T = TypeVar("T")

_BOUNDLESS = 2**62
"""Bytes of memory of a device without a limit in its profile."""

_MIN_SAMPLES = 2
"""Batch normalisation trains on two samples at least; a real device with fewer is unfit, and the others go on."""


@dataclass(frozen=True)
class VirtualDevice:
    """One virtual device of the fleet.

    Attributes:
        number: Number of the device, from 0, which selects its share of the data.
        profile: Name of the device's profile.
        plan: Plan that the planner made for the device.
        member: Cohort member that the device is in every round in which it takes part.
    """

    number: int
    profile: str
    plan: Plan
    member: CohortMember

    @property
    def id(self) -> str:
        """The id of the device, such as ``dev-007`` for number 7 of 1,000."""
        return self.member.device


def device_id(number: int, devices: int) -> str:
    """Returns the id of a device; ids sort like their numbers."""
    return f"dev-{number:0{len(str(devices - 1))}}"


def make_fleet(experiment: Experiment, blueprint: Blueprint, assignment: DataAssignment) -> dict[str, VirtualDevice]:
    """Makes all devices by id, each with its plan.

    Raises:
        ConfigError: The depth mix does not fit the model, or a profile is unknown or names no memory.
    """
    settings, seed = experiment.fleet, experiment.seed
    ids = [device_id(number, settings.devices) for number in range(settings.devices)]
    depths = _depths(experiment, blueprint, ids)
    profiles = apportioned(settings.profiles, ids, seed, "profile") if settings.profiles else {}
    found = {name: find_profile(name) for name in settings.profiles}
    fleet = {}
    for number, device in enumerate(ids):
        samples = assignment.samples_of(number)
        facts = _unlimited(samples)
        if device in profiles:
            stated = expected_facts(found[profiles[device]], samples)
            if stated is None:
                raise ConfigError(
                    f"the profile {profiles[device]} does not say how much memory there is: give it ram_mb"
                )
            facts = stated
        if samples < _MIN_SAMPLES:
            said = f"training needs {_MIN_SAMPLES} samples at least, and it has {samples}"
            chosen = Plan(0, 0.0, said, 0, 0.0)
        else:
            chosen = _plan(experiment, blueprint, facts, depths.get(device))
        weight = 1 if experiment.scheme.weights == "uniform" else samples
        place = CohortMember(
            device,
            chosen.depth,
            chosen.lpr,
            samples,
            weight,
            encoding=chosen.encoding,
            memory_saving=chosen.memory_saving,
        )
        fleet[device] = VirtualDevice(number, facts.profile, chosen, place)
    return fleet


def _plan(experiment: Experiment, blueprint: Blueprint, facts: DeviceFacts, bears: int | None) -> Plan:
    """Plans a device that can train at most depth ``bears``; if that is None, its facts alone limit the depth."""
    rules, depth = experiment.planning_rules, experiment.scheme.depth
    if bears is not None and depth == "only-full" and bears < blueprint.full_depth:
        return Plan(0, 0.0, f"bears depth {bears} of {blueprint.full_depth}, and only whole models are trained", 0, 0.0)
    if bears is not None and depth in ("auto", "only-full"):
        rules = msgspec.structs.replace(rules, scheme=msgspec.structs.replace(rules.scheme, depth=bears))
    chosen = AdaptivePlanner(blueprint, rules).after_report(facts)
    if bears is not None and depth == "auto":
        said = f"depth {chosen.depth} of {blueprint.full_depth}, from the depth mix"
        chosen = msgspec.structs.replace(chosen, explanation=said)
    return chosen


def apportioned(shares: Mapping[T, float], ids: Sequence[str], seed: int, purpose: str) -> dict[str, T]:
    """Distributes values to shuffled devices so that the shares are met exactly, up to rounding.

    Args:
        shares: Share of the devices by value; the shares sum to 1.
        ids: Ids of the devices.
        seed: Seed of the run.
        purpose: Label that separates the random draws of several distributions in one run.
    """
    exact = {value: share * len(ids) for value, share in shares.items()}
    counts = {value: int(amount + 1e-9) for value, amount in exact.items()}
    # The largest remainders get the places that rounding down has left.
    by_remainder = sorted(exact, key=lambda value: counts[value] - exact[value])
    for value in by_remainder[: len(ids) - sum(counts.values())]:
        counts[value] += 1
    order = sorted(ids, key=lambda device: (uniform(seed, purpose, device), device))
    values = [value for value, count in counts.items() for _ in range(count)]
    return dict(zip(order, values, strict=True))


def drawn(shares: Sequence[float], ids: Sequence[str], seed: int, purpose: str) -> dict[str, int]:
    """Draws a number from 1 for each device independently, with these probabilities."""
    chosen = {}
    for device in ids:
        draw, total = uniform(seed, purpose, device), 0.0
        for number, share in enumerate(shares, start=1):
            total += share
            # The last one with a share takes what rounding may leave of the 1.
            if share and (draw < total or not any(shares[number:])):
                chosen[device] = number
                break
    return chosen


def _depths(experiment: Experiment, blueprint: Blueprint, ids: Sequence[str]) -> dict[str, int]:
    """Returns the deepest depth that each device can train by the mix; empty if the planner decides."""
    mix = experiment.fleet.depth_mix
    if not mix:
        return {}
    if len(mix) != blueprint.full_depth:
        raise ConfigError(
            f"depth_mix has {len(mix)} shares, but {blueprint.model} has {blueprint.full_depth} depths: give one each"
        )
    if experiment.fleet.depth_draw:
        return drawn(mix, ids, experiment.seed, "depth")
    return apportioned(dict(enumerate(mix, start=1)), ids, experiment.seed, "depth")


def _unlimited(samples: int) -> DeviceFacts:
    return DeviceFacts(training_memory=_BOUNDLESS, training_macs_per_second=0.0, samples=samples)
