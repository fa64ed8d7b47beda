"""How the virtual devices compute: one mode for each depth, the same on every worker and for the whole run.

A mode changes the last bits of what is learned, so it is found once, by one worker, and kept in the run directory for a
run that goes on later, perhaps elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.errors import StorageError
from fedlp_edge.simulation.engines.base import Engine, QueuedJob, carry_out
from fedlp_edge.simulation.engines.jobs import ChooseCompute, ComputeChosen
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.system.files import replacing

Modes = dict[int, ComputeMode]


def compute_modes(
    experiment: Experiment,
    fleet: Mapping[str, VirtualDevice],
    engine: Engine,
    path: Path,
    stopped: Callable[[], bool],
) -> Modes:
    """The mode of every depth that the fleet has: the one that is set, that the run began with, or the fastest.

    Args:
        experiment: may set a mode.
        fleet: by id.
        engine: tries them out.
        path: where they are kept.
        stopped: see ``carry_out``.

    Raises:
        StorageError: what is kept cannot be read, or nothing can be kept.
    """
    largest: dict[int, VirtualDevice] = {}
    for device in fleet.values():
        known = largest.get(device.plan.depth)
        if known is None or device.member.samples > known.member.samples:
            largest[device.plan.depth] = device
    largest.pop(0, None)
    setting = experiment.training.compute
    if setting != "auto":
        return dict.fromkeys(largest, setting)
    try:
        modes: Modes = msgspec.json.decode(path.read_bytes(), type=Modes) if path.exists() else {}
        unknown = [device for depth, device in largest.items() if depth not in modes]
        jobs = [QueuedJob(ChooseCompute(device.number, device.plan.depth), cost=1.0) for device in unknown]
        for reply in carry_out(engine, jobs, stopped):
            if isinstance(reply, ComputeChosen):
                modes[reply.depth] = reply.compute
        if unknown:
            with replacing(path) as partial:
                partial.write_bytes(msgspec.json.encode(modes))
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageError(f"{path}: {error}") from None
    return modes
