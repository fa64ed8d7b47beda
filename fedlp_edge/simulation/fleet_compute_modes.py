"""This module chooses one compute mode per depth, used by every worker for the whole run.

A compute mode changes the last bits of the model, so it is found once, by one worker, and stored in the run directory
for a run that continues later, perhaps on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.errors import StorageError
from fedlp_edge.simulation.engines.base import Engine, QueuedJob, run_jobs
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
    """Returns the compute mode of every depth in the fleet: the configured one, the stored one, or the fastest.

    Args:
        experiment: Experiment, which may configure a compute mode.
        fleet: Devices by id.
        engine: Engine that measures the compute modes.
        path: File in which the compute modes are stored.
        stopped: Function that returns whether the simulation shall stop.

    Raises:
        SimulationStoppedError: ``stopped()`` returned True.
        StorageError: The file cannot be read or written.
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
        for reply in run_jobs(engine, jobs, stopped):
            if isinstance(reply, ComputeChosen):
                modes[reply.depth] = reply.compute
        if unknown:
            with replacing(path) as partial:
                partial.write_bytes(msgspec.json.encode(modes))
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageError(f"{path}: {error}") from None
    return modes
