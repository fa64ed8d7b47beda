"""Defines the context that every part of the coordinator needs of its one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.config import FleetConfig
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.start_weights import StartWeightsReport
from fedlp_edge.reporting import events
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory


@dataclass(frozen=True)
class RunContext:
    """The context of a run whose model is built; the service makes it, and nothing of it is replaced later.

    Attributes:
        config: The fleet's configuration.
        run: Name of the run, on the wire and in files.
        blueprint: Blueprint of the model.
        directory: The run directory, locked.
        journal: Journal of the run, from which a restart goes on.
        checkpoints: The global model after each round, on disk.
        messenger: Control messages to the devices.
        emit: Function that takes every event of the run.
        clock: Monotonic seconds.
        start_weights: Report on what was taken of the model's start weights; None if it has none.
        remark: Warning about the model or the run directory for people; empty if there is none.
    """

    config: FleetConfig
    run: str
    blueprint: Blueprint
    directory: RunDirectory
    journal: Journal
    checkpoints: Checkpoints
    messenger: ControlMessenger
    emit: Callable[[events.AnyEvent], None]
    clock: Callable[[], float]
    start_weights: StartWeightsReport | None = None
    remark: str = ""
