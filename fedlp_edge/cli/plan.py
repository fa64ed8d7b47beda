"""This module implements ``fedlp plan``, which computes the depth of each device profile before any round is run.

The plan is the coordinator's own (``core/planning/planner.py``); only the devices' reports are taken from profiles.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.text import Text

from fedlp_edge.cli.depths import build_and_try_export, constants_line, depth_table, exchanged_bytes, title
from fedlp_edge.core.blueprint import Blueprint, HeadMode
from fedlp_edge.core.planning.memory_saving import memory_saving_steps
from fedlp_edge.core.planning.planner import plan
from fedlp_edge.core.planning.prediction import device_memory
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import Encoding, MemorySaving, ModelSettings
from fedlp_edge.probe.expected import RUNTIME_MEMORY, expected_facts
from fedlp_edge.probe.host import BOARD_SYSTEM_MEMORY
from fedlp_edge.probe.profiles import DeviceProfile, load_profiles
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import depth_bar, format_bytes

NO_MEMORY = "not planned: the profile states neither ram_mb nor training_memory_mb"
NO_SPEED = "time is not considered: the profile states no training speed"
ONLY_TRANSFERS = "that time is transfers alone: the profile states no training speed"


class DepthRow(msgspec.Struct, frozen=True):
    """One depth of the model; ``docs/planning.md`` has the keys."""

    depth: int
    layer: str
    parameters: int
    bytes: int
    forward_macs: int
    activation_bytes: int
    training_memory: int
    least_memory: int


class ProfilePlan(msgspec.Struct, frozen=True):
    """What one class of devices gets; ``docs/planning.md`` has the keys."""

    profile: str
    description: str
    training_memory: int | None
    training_macs_per_second: float | None
    link_bytes_per_second: float | None
    depth: int | None
    lpr: float | None
    encoding: Encoding | None
    memory_bytes: int | None
    seconds: float | None
    memory_saving: MemorySaving | None
    explanation: str


class FleetPlan(msgspec.Struct, frozen=True):
    """The command's JSON answer, whose keys ``docs/planning.md`` describes."""

    model: str
    input: tuple[int, ...]
    classes: int
    head_mode: HeadMode
    batch_size: int
    samples: int
    deadline_seconds: float
    depths: tuple[DepthRow, ...]
    profiles: tuple[ProfilePlan, ...]
    no_export: str = ""


def run_plan(
    model: ModelSettings,
    rules: PlanningRules,
    directory: Path | None,
    samples: int,
    *,
    as_json: bool,
) -> int:
    """Prints costs and assignments, or the JSON object of ``FleetPlan``."""
    profiles = load_profiles(directory)
    blueprint, no_export = build_and_try_export(model)
    fleet = msgspec.structs.replace(plan_fleet(blueprint, rules, profiles, samples), no_export=no_export)
    if as_json:
        print(msgspec.json.encode(fleet).decode())
    else:
        _print_plan(blueprint, fleet)
    return 0


def plan_fleet(blueprint: Blueprint, rules: PlanningRules, profiles: list[DeviceProfile], samples: int) -> FleetPlan:
    """Plans one device of every profile, the one with the least memory first.

    Args:
        blueprint: Blueprint of the model.
        rules: Rules of the run.
        profiles: The classes of devices.
        samples: Number of samples that every device is taken to hold.
    """
    plans = [plan_profile(blueprint, rules, profile, samples) for profile in profiles]
    return FleetPlan(
        model=blueprint.model,
        input=blueprint.input_shape,
        classes=blueprint.classes,
        head_mode=blueprint.head_mode,
        batch_size=rules.training.batch_size,
        samples=samples,
        deadline_seconds=rules.deadline_seconds,
        depths=tuple(
            DepthRow(
                depth=cost.depth,
                layer=blueprint.by_id[f"L{cost.depth}"].name,
                parameters=cost.parameters,
                bytes=exchanged_bytes(blueprint, cost.depth),
                forward_macs=cost.forward_macs,
                activation_bytes=cost.activation_bytes,
                training_memory=device_memory(blueprint, cost.depth, rules.training),
                least_memory=_least_memory(blueprint, cost.depth, rules),
            )
            for cost in blueprint.costs
        ),
        profiles=tuple(sorted(plans, key=lambda one: (one.training_memory or 0, one.profile))),
    )


def plan_profile(blueprint: Blueprint, rules: PlanningRules, profile: DeviceProfile, samples: int) -> ProfilePlan:
    """Plans one device; what the profile leaves open is said in the explanation."""
    facts = expected_facts(profile, samples)
    chosen = None if facts is None else plan(facts, blueprint, rules)
    timeless = profile.training_gmacs_per_second is None
    explanation = NO_MEMORY if chosen is None else chosen.explanation
    if chosen is not None and chosen.depth and timeless:
        explanation += f"; {ONLY_TRANSFERS if chosen.seconds else NO_SPEED}"
    return ProfilePlan(
        profile=profile.name,
        description=profile.description,
        training_memory=facts.training_memory if facts else None,
        training_macs_per_second=None if facts is None or timeless else facts.training_macs_per_second,
        link_bytes_per_second=profile.link_bytes_per_second,
        depth=chosen.depth if chosen else None,
        lpr=chosen.lpr if chosen else None,
        encoding=chosen.encoding if chosen else None,
        memory_bytes=chosen.memory_bytes if chosen else None,
        seconds=None if chosen is None or timeless else chosen.seconds,
        memory_saving=chosen.memory_saving if chosen else None,
        explanation=explanation,
    )


def _least_memory(blueprint: Blueprint, depth: int, rules: PlanningRules) -> int:
    ways = memory_saving_steps(rules.training, rules.planner.techniques)
    return min(device_memory(blueprint, depth, msgspec.structs.replace(rules.training, memory=way)) for way in ways)


def _print_plan(blueprint: Blueprint, fleet: FleetPlan) -> None:
    console = open_console()
    needed = {row.depth: f"{row.training_memory / 1e6:.1f} / {row.least_memory / 1e6:.1f} MB" for row in fleet.depths}
    console.print(title(blueprint))
    if blueprint.remark:
        console.print(Text(blueprint.remark, style="yellow"), soft_wrap=True)
    if fleet.no_export:
        console.print(Text(fleet.no_export, style="yellow"), soft_wrap=True)
    console.print()
    console.print(depth_table(blueprint, "memory", needed.__getitem__))
    console.print(
        Text(
            f"bytes: a download; MMACs, saved: a sample; memory: training, batches of {fleet.batch_size}, "
            "quickly / frugally",
            style="dim",
        )
    )
    if (once := constants_line(blueprint)) is not None:
        console.print(once)
    console.print()
    console.print(Text(f"{fleet.samples} samples on every device, {fleet.deadline_seconds:g} s a round", style="bold"))
    width = max(len(one.profile) for one in fleet.profiles)
    for one in fleet.profiles:
        bar = Text(depth_bar(one.depth or 0, blueprint.full_depth), style="cyan")
        # One line each, however long, so that it can be searched.
        console.print(Text.assemble(f"{one.profile:<{width}}  ", bar, f"  {one.explanation}"), soft_wrap=True)
    system, runtime = format_bytes(BOARD_SYSTEM_MEMORY), format_bytes(RUNTIME_MEMORY)
    note = f"A board's memory is its RAM less {system} for the system and {runtime} for agent and PyTorch."
    console.print(Text(note, style="dim"), soft_wrap=True)
