"""A run whose one round is committed, with devices that are still there."""

from __future__ import annotations

from pathlib import Path

from coordinator.final.final_stage import FinalStage
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.wire.messages import DeploymentReport, RunEnded
from fedlp_edge.worker.jobs import Export, Exported, ExportedModel
from fedlp_edge.worker.process import WorkerReply
from tests.coordinator.assembled import AssembledRun, status
from tests.coordinator.fleets import RUN, update

DELTAS = {"L1": 1.0, "L2": 2.0, "H2": 3.0}
SMALL = 50_000_000
"""Bytes that suffice for depth 1 alone."""


def ended_run(directory: Path, **settings: object) -> AssembledRun:
    """A run of one round to which a (depth 2) and b (depth 1) have contributed."""
    rounds = RoundSettings(count=1, min_devices=2, rejoin_seconds=0.0)
    run = AssembledRun(directory, **{"rounds": rounds} | settings)
    run.join(status("a"), status("b", memory=SMALL))
    run.upload(*update("a", DELTAS))
    run.upload(*update("b", {"L1": 1.0, "H1": 1.0}))
    run.settle()
    run.heard()
    return run


def stage_of(run: AssembledRun, *, hand_out: bool = False) -> FinalStage:
    return FinalStage(run.context, run.parts, 0.0, hand_out=hand_out)


def export_all(run: AssembledRun, stage: FinalStage) -> None:
    """Has the worker write what it was asked for."""
    while stage.export is not None and not stage.export.announced:
        job = run.jobs.given[-1]
        assert isinstance(job, Export)
        stage.answered(exported(run, *job.depths))


def exported(run: AssembledRun, *depths: int) -> WorkerReply:
    """The worker's answer for some depths, with a file for each that is as long as its depth says."""
    run.context.directory.onnx.mkdir(exist_ok=True)
    for depth in depths:
        (run.context.directory.onnx / f"depth-{depth}.onnx").write_bytes(bytes(100 * depth))
    models = tuple(ExportedModel(f"depth-{depth}.onnx", depth, 0.0, 0.5) for depth in depths)
    return WorkerReply(len(run.jobs.given), Exported(models=models))


def offered(run: AssembledRun) -> dict[str, list[str]]:
    """Names of the files that devices were told of since the last call."""
    return {m.device: [version.unit for version in m.models] for m in run.heard() if isinstance(m, RunEnded)}


def report(device: str, state: str, reason: str = "") -> DeploymentReport:
    return DeploymentReport(run=RUN, device=device, state=state, reason=reason)  # type: ignore[arg-type]
