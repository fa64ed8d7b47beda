"""A tiny model as plain data, and updates made by hand: what the coordinator's tests talk about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coordinator.config import DataSettings, FleetConfig
from coordinator.run_context import RunContext
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitPayload
from fedlp_edge.wire.tensors import pack
from fedlp_edge.wire.topics import Topics

RUN = "run"
NAMES = {"L1": "blocks.0.w", "L2": "blocks.1.w", "H1": "heads.1.w", "H2": "heads.2.w"}


def tiny_blueprint() -> Blueprint:
    """Two layers and two shared heads of two numbers each; depth 1 and 2 need 1 MB and 100 MB of activations."""
    units = tuple(
        Unit(id, id.lower(), "layer" if id[0] == "L" else "head", int(id[1]), (TensorSpec(name, (2,), "trained"),))
        for id, name in NAMES.items()
    )
    costs = (DepthCost(1, 4, 100, 1_000_000), DepthCost(2, 6, 200, 100_000_000))
    return Blueprint("tiny", (1, 2, 2), 2, "shared", units, costs)


def facts(*, memory: int = 10**12, samples: int = 10, **changes: object) -> DeviceFacts:
    """A device's report."""
    return DeviceFacts(training_memory=memory, training_macs_per_second=1e9, samples=samples, **changes)  # type: ignore[arg-type]


def update(device: str, deltas: Mapping[str, float], *, samples: int = 10, round: int = 1) -> tuple[Offer, bytes]:
    """An offer and its blob; ``deltas`` gives the value of both elements, by unit."""
    parts, blob = [], b""
    for unit, value in deltas.items():
        packed = pack({NAMES[unit]: np.full(2, value, np.float32)})
        parts.append(UnitPayload(unit, len(blob), len(packed)))
        blob += packed
    offer = Offer(
        run=RUN,
        round=round,
        device=device,
        session="s",
        digest=digest_of(blob),
        size=len(blob),
        units=tuple(parts),
        samples=samples,
        loss=0.5,
        seconds=1.0,
        bytes_down=100,
    )
    return offer, blob


def run_context(directory: RunDirectory, journal: Journal, **settings: object) -> RunContext:
    """A run of the tiny model, by default without test data, whose messages nobody hears; ``settings`` configure it."""
    config = FleetConfig(**{"fleet": "fleet", "run": RUN, "data": DataSettings(evaluate=""), **settings})  # type: ignore[arg-type]
    transport = MemoryHub().transport("coordinator")
    transport.start(lambda _: None)
    return RunContext(
        config=config,
        run=RUN,
        blueprint=tiny_blueprint(),
        directory=directory,
        journal=journal,
        checkpoints=Checkpoints(directory.checkpoints),
        messenger=ControlMessenger(transport, Topics("fleet"), RUN),
        emit=lambda _: None,
        clock=lambda: 0.0,
    )
