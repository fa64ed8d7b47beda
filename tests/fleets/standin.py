"""A worker that needs no torch: it trains nothing, but what it answers depends on everything that should matter.

Its deltas are a function of the state, the seed of the task and the values of its own it starts from, so a fleet of
stand-ins ends with another model as soon as one round starts from the wrong bits anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import numpy as np

from fedlp_edge.core.blueprint import Blueprint, DepthCost, HeadMode, TensorSpec, Unit
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.model_scores import ModelScores
from fedlp_edge.core.seeds import derive
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.wire.broadcast_encoding import decode_weights
from fedlp_edge.wire.tensors import pack_file, unpack_file
from fedlp_edge.worker.jobs import (
    AnyJob,
    AnyResult,
    Build,
    Built,
    CheckExport,
    DeviceMeasurement,
    Evaluate,
    Evaluated,
    Export,
    ExportChecked,
    Exported,
    ExportedModel,
    Measure,
    Train,
    Trained,
)
from fedlp_edge.worker.process import WorkerEvent, WorkerReply

MODEL = ModelSettings(name="stand-in", input=(1, 2, 2), classes=2)
MEGABYTE = 1_000_000


@cache
def blueprint(head_mode: HeadMode = "shared", width: int = 600, columns: int = 0) -> Blueprint:
    """Two layers and two heads of ``width`` numbers each; the second depth needs some 500 MB, the first 5.

    With ``columns`` the numbers are a matrix, which integers encode on the way down; otherwise they are a row.
    """
    shape = (width // columns, columns) if columns else (width,)
    units = tuple(
        Unit(name, name.lower(), "layer" if name[0] == "L" else "head", int(name[1]), (_tensor(name, shape),))
        for name in ("L1", "L2", "H1", "H2")
    )
    costs = (DepthCost(1, 2 * width, 100, MEGABYTE // 10), DepthCost(2, 3 * width, 200, 10 * MEGABYTE))
    return Blueprint("stand-in", (1, 2, 2), 2, head_mode, units, costs)


def profile_of(device: str) -> DeviceProfile:
    """Of ``dev-N``: every second device is small and bears depth 1 alone."""
    small = int(device.removeprefix("dev-")) % 2 == 0
    return DeviceProfile(name="small" if small else "large", training_memory_mb=50 if small else 5000)


def _tensor(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(f"{name.lower()}.weight", shape, "trained")


def noise(size: int | tuple[int, ...], *parts: str | int) -> np.ndarray:
    """Numbers around zero that are a function of ``parts``."""
    return np.random.default_rng(derive(*parts)).standard_normal(size).astype(np.float32)


class StandIn:
    """What ``WorkerProcess`` is to a service, answering by calls of ``reply`` instead of from a process.

    Args:
        sink: gets the replies.
        later: called with the seconds that a job takes and what is to happen then.
        head_mode: of the model that it builds.
        seconds: that a training takes.
        samples: that it claims to have.
        width: numbers in a unit.
        columns: of the matrix that a unit is; 0 for a row.
    """

    def __init__(
        self,
        sink: Callable[[WorkerEvent], None],
        later: Callable[[float, Callable[[], None]], None],
        *,
        head_mode: HeadMode = "shared",
        seconds: float = 1.0,
        samples: int = 100,
        width: int = 600,
        columns: int = 0,
    ) -> None:
        self._sink = sink
        self._later = later
        self._blueprint = blueprint(head_mode, width, columns)
        self._seconds = seconds
        self._samples = samples
        self._last = 0
        self.trainings = 0

    def submit(self, job: AnyJob) -> int:
        self._last += 1
        reply = WorkerReply(self._last, self._do(job))
        self._later(self._seconds if isinstance(job, Train) else 0.1, lambda: self._sink(reply))
        return self._last

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        return self._do(job)

    def stop(self) -> None:
        pass

    def _do(self, job: AnyJob) -> AnyResult:
        match job:
            case Build():
                if job.state_path is not None:
                    values = {t.name: noise(t.shape, job.seed, t.name) for u in self._global for t in u.tensors}
                    pack_file(values, Path(job.state_path))
                return Built(blueprint=self._blueprint)
            case Measure():
                return DeviceMeasurement(
                    samples=self._samples,
                    data=DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1),
                    training_macs_per_second=1e9,
                    processor="cpu",
                    idle_memory=0,
                )
            case Train():
                return self._train(job)
            case Evaluate():
                state = unpack_file(Path(job.state_path))
                score = float(np.mean([np.abs(value).mean() for value in state.values()])) % 1
                loss = dict.fromkeys(job.depths, score)
                metrics = {depth: {"accuracy": score} for depth in job.depths}
                return Evaluated(scores=ModelScores(metrics, loss, answer=job.answer), exit_loss=loss, samples=10)
            case Export():
                return self._export(job)
            case CheckExport():
                state = {name: value for path in job.state_paths for name, value in unpack_file(Path(path)).items()}
                assert Path(job.file).read_bytes() == tiny_onnx()
                scores = {job.depth: self._scores(state)}
                return ExportChecked(samples=10, max_abs_diff=1e-6 * job.depth, agreement=1.0, scores=scores)

    @property
    def _global(self) -> tuple[Unit, ...]:
        return self._blueprint.global_units

    def _names(self, units: Collection[str]) -> list[str]:
        return [tensor.name for unit in self._blueprint.units if unit.id in units for tensor in unit.tensors]

    def _train(self, job: Train) -> Trained:
        self.trainings += 1
        state = {name: value for path in job.state_paths for name, value in unpack_file(Path(path)).items()}
        for unit in job.encoded:
            state |= decode_weights(unit.tensors, Path(unit.path).read_bytes(), unit.encoding)
        pull = np.float32(1.0)
        stays: dict[str, np.ndarray] = {}
        reused = unpack_file(Path(job.reused_path)) if job.reused_path else {}
        if personal := self._blueprint.personal_of(job.depth):
            has_head = any(unit.id in job.reused for unit in personal)
            head = reused["head"] if has_head else noise(8, job.head_seed, "head")
            pull = np.float32(np.abs(head).mean())
            stays["head"] = head * np.float32(0.5) + np.float32(len(state))
        start = state | {n: reused[n] for n in reused if n in self._names(job.reused)}
        steps = {n: pull * np.float32(0.1) * start[n] + noise(start[n].shape, job.seed, n) for n in state}
        for unit, names in job.sent.items():
            deltas = {n: steps[n] if start[n] is state[n] else start[n] + steps[n] - state[n] for n in names}
            pack_file(deltas, Path(job.delta_dir) / f"{unit}.safetensors")
        stays |= {n: start[n] + steps[n] for n in self._names(job.withheld) if n in state}
        if job.withheld_path is not None:
            pack_file(stays, Path(job.withheld_path))
        scores = {job.depth: self._scores(state)} if job.judge and job.holdout else {}
        return Trained(samples=self._samples, loss=0.5, seconds=self._seconds, peak_memory=1000, scores=scores)

    def _scores(self, state: dict[str, np.ndarray]) -> HeldOutScores:
        """Ten samples of two classes, of which as many are right as the state says."""
        right = float(int(1000 * np.mean([np.abs(value).mean() for value in state.values()])) % 6)
        sums = {"samples": (10.0,), "loss": (10 - right,), "support": (5.0, 5.0), "predicted": (5.0, 5.0)}
        return HeldOutScores(sums | {"correct": (right, 5.0)})

    def _export(self, job: Export) -> Exported:
        directory = Path(job.directory)
        models = []
        for depth in job.depths:
            (directory / f"stand-in-depth-{depth}.onnx").write_bytes(tiny_onnx())
            models.append(
                ExportedModel(file=f"stand-in-depth-{depth}.onnx", depth=depth, max_abs_diff=0.0, accuracy=0.5)
            )
        return Exported(models=tuple(models))


@cache
def tiny_onnx() -> bytes:
    """A model that onnxruntime loads; it is of three chunks or so, padded by its documentation."""
    import onnx
    from onnx import TensorProto, helper

    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 2, 2])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Flatten", ["input"], ["logits"])], "tiny", [entry], [leaving])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.doc_string = "x" * 3000
    onnx.checker.check_model(model)
    return model.SerializeToString()
