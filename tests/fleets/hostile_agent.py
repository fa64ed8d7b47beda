"""An agent with a login that lies: the real command, with a worker whose answers are not the truth.

``python -m tests.fleets.hostile_agent ATTACK ...`` takes the agent's own options after the name of the attack.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agent import command
from fedlp_edge.wire.tensors import pack_file, unpack_file
from fedlp_edge.worker.jobs import AnyJob, AnyResult, DeviceMeasurement, Failed, Train, Trained
from fedlp_edge.worker.process import WorkerEvent, WorkerProcess, WorkerReply, WorkerSink


class Quiet(WorkerProcess):
    """Trains nothing, and says so: what is left is the model of the others."""

    def __init__(self, options: Any, sink: WorkerSink, log_path: Path | None = None) -> None:
        def told(event: WorkerEvent) -> None:
            if isinstance(event, WorkerReply):
                event = WorkerReply(event.id, self.lie(self._given.pop(event.id), event.result))
            sink(event)

        self._given: dict[int, AnyJob] = {}
        super().__init__(options, told, log_path)

    def submit(self, job: AnyJob) -> int:
        # The worker numbers its jobs from 1, and the answer may be here before its number is.
        self._given[self._last_id + 1] = job
        return super().submit(job)

    def lie(self, job: AnyJob, result: AnyResult) -> AnyResult:
        return Failed(kind="data", reason="no data") if isinstance(job, Train) else result


class Boastful(Quiet):
    """Says that it has 2^53 samples and a processor for them, and delivers nothing."""

    def lie(self, job: AnyJob, result: AnyResult) -> AnyResult:
        if isinstance(result, DeviceMeasurement):
            return msgspec.structs.replace(result, samples=2**53, training_macs_per_second=1e30)
        return super().lie(job, result)


class Absurd(Quiet):
    """Sends an update of one sample, with means that are just what a float may be."""

    def lie(self, job: AnyJob, result: AnyResult) -> AnyResult:
        if not isinstance(job, Train) or not isinstance(result, Trained):
            return result
        for path in Path(job.delta_dir).glob("*.safetensors"):
            sent = unpack_file(path)
            absurd = {n: np.full_like(v, -(2.0**20)) for n, v in sent.items() if n.endswith("running_mean")}
            pack_file(sent | absurd, path)
        return msgspec.structs.replace(result, samples=1)


ATTACKS = {"quiet": Quiet, "boastful": Boastful, "absurd": Absurd}

if __name__ == "__main__":
    command.WorkerProcess = ATTACKS[sys.argv.pop(1)]  # type: ignore[attr-defined, assignment, misc]
    command.app(prog_name="fedlp-agent")
