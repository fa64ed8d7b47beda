"""The end of a run: ONNX files are made and checked, and every device fetches the one of its depth.

A device with a personal head gets the final layers instead, and makes its file itself: the head never leaves it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.config import FleetConfig
from coordinator.registry import Member
from coordinator.shelf import Shelf
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.reporting import events
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.messages import Farewell, UnitRequest
from fedlp_edge.worker.jobs import Export, Exported, ExportedModel
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger("fedlp.coordinator")

FIRST_REQUEST_SECONDS = 10.0
"""How long a device may take to begin fetching its file before it is given up."""

QUIET_SECONDS = 3.0
"""A device that has asked for nothing this long has what it wants."""


class Finale:
    """Export, then farewell.

    Args:
        config: of the fleet.
        run: its name.
        blueprint: of the model.
        depths: that the global model can compute.
        state_path: the final model.
        directory: where the files go.
        worker: exports.
        shelf: serves the files.
        tell: sends a control message to a device.
        emit: takes events.
    """

    def __init__(
        self,
        *,
        config: FleetConfig,
        run: str,
        blueprint: Blueprint,
        depths: tuple[int, ...],
        state_path: Path,
        directory: RunDirectory,
        worker: WorkerProcess,
        shelf: Shelf,
        tell: Callable[[Farewell], None],
        emit: Callable[[events.AnyEvent], None],
    ) -> None:
        self._config = config
        self._run = run
        self._state_path = state_path
        self._directory = directory
        self._worker = worker
        self._shelf = shelf
        self._tell = tell
        self._emit = emit
        self._blueprint = blueprint
        self._depths = _chosen(config, depths, blueprint)
        self._fetching: dict[str, float] = {}
        self._said_goodbye = False
        self.models: tuple[ExportedModel, ...] = ()

    @property
    def exports(self) -> bool:
        """Whether there is anything to export."""
        return bool(self._depths)

    @property
    def done(self) -> bool:
        """Whether every device has its file, or was given up."""
        return self._said_goodbye and not self._fetching

    def export(self) -> None:
        """Asks the worker for the files; ``exported`` takes its answer."""
        self._emit(events.Exporting(time=time.time(), depths=self._depths))
        self._worker.submit(
            Export(
                model=self._config.model,
                state_paths=(str(self._state_path),),
                depths=self._depths,
                data=self._config.data.evaluate,
                directory=str(self._directory.onnx),
                metadata={"run": self._run, "round": str(self._config.rounds.count), "fleet": self._config.fleet},
            )
        )

    def exported(self, result: Exported) -> None:
        """Takes the files that were written and checked."""
        self.models = result.models
        for model in result.models:
            self._shelf.put(f"onnx-{model.depth}", (self._directory.onnx / model.file).read_bytes())
            self._emit(
                events.ModelExported(
                    time=time.time(),
                    file=model.file,
                    depth=model.depth,
                    max_abs_diff=model.max_abs_diff,
                    accuracy=model.accuracy,
                )
            )

    def farewell(self, members: list[Member], now: float) -> None:
        """Tells every device that the run is over and which file is its own."""
        self._said_goodbye = True
        for member in members:
            self.part_with(member, now)

    def part_with(self, member: Member, now: float) -> None:
        """Tells one device; also one that comes late."""
        if not self._said_goodbye or member.plan.depth == 0:
            return
        own = [model for model in self.models if model.depth == member.plan.depth]
        models = self._shelf.versions(f"onnx-{model.depth}" for model in own)
        layers = self._shelf.versions(self._layers_for(member.plan.depth))
        rounds = self._config.rounds.count
        self._tell(Farewell(run=self._run, device=member.device, rounds=rounds, models=models, layers=layers))
        if models or layers:
            self._fetching.setdefault(member.device, now + FIRST_REQUEST_SECONDS)

    def _layers_for(self, depth: int) -> tuple[str, ...]:
        """What a device needs that makes its file itself; nothing if the coordinator makes it, or nobody shall."""
        wanted = self._config.export.depths
        exported = wanted == "all" or (isinstance(wanted, tuple) and depth in wanted)
        exchanged = self._blueprint.exchanged_by(depth)
        if not exported or exchanged == self._blueprint.held_by(depth):
            return ()
        return tuple(unit.id for unit in exchanged)

    def requested(self, request: UnitRequest, now: float) -> None:
        """Notes that a device is fetching."""
        if request.device in self._fetching:
            self._fetching[request.device] = now + QUIET_SECONDS

    def left(self, device: str) -> None:
        """A device went offline: it has its file, or does not want it."""
        self._fetching.pop(device, None)

    def tick(self, now: float) -> None:
        """Lets go of devices that ask for nothing any more."""
        self._fetching = {device: until for device, until in self._fetching.items() if until > now}


def _chosen(config: FleetConfig, available: tuple[int, ...], blueprint: Blueprint) -> tuple[int, ...]:
    """Depths to export here; without data nothing could be checked, so nothing is exported."""
    if not config.data.evaluate or config.export.depths == "none":
        return ()
    if config.export.depths == "all":
        return available
    if config.export.depths == "full":
        return (blueprint.full_depth,)
    by_devices = {depth for depth in blueprint.depths if blueprint.exchanged_by(depth) != blueprint.held_by(depth)}
    unknown = [depth for depth in config.export.depths if depth not in available and depth not in by_devices]
    if unknown:
        log.warning("depths %s cannot be exported; the global model has %s", unknown, list(available))
    return tuple(depth for depth in config.export.depths if depth in available)
