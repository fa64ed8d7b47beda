"""What the coordinator's loop takes from its one queue."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.background import TaskFinished
from fedlp_edge.transport.base import TransportEvent
from fedlp_edge.worker.process import WorkerEvent


@dataclass(frozen=True)
class StopRequested:
    """Put into the inbox to end the loop."""


InboxItem = TransportEvent | WorkerEvent | TaskFinished | StopRequested
