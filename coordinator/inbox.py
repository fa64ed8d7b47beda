"""Defines the items that the coordinator's loop takes from its one queue."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.background import TaskFinished
from fedlp_edge.transport.base import TransportEvent
from fedlp_edge.worker.process import WorkerEvent


@dataclass(frozen=True)
class StopRequested:
    """The inbox item that ends the loop."""


InboxItem = TransportEvent | WorkerEvent | TaskFinished | StopRequested
