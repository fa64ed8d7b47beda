"""What ``prune = "train"`` saves on a device: processor time and memory of its rounds, beside ``prune = "upload"``.

``python -m benchmarks.freezing`` trains the same rounds, with the same draws, in two worker processes by turns, one
that trains pruned layers and one that freezes them, and prints one JSON line per model and rate. What is counted is
processor time of the worker process, torch with one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean
from typing import Literal

import msgspec
import psutil

from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.worker.jobs import Build, Built, Train, Trained, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

SECONDS = 600.0
Mode = Literal["upload", "train"]


class Saved(msgspec.Struct, frozen=True):
    """One line of the result; all but ``model``, ``lpr`` and ``rounds`` by mode.

    Attributes:
        processor_s: seconds of processor time a round, mean.
        peak_mb: memory of training on top of the idle worker, in megabytes: mean over the rounds, and the largest.
    """

    model: str
    lpr: float
    rounds: int
    processor_s: dict[Mode, float]
    peak_mb: dict[Mode, tuple[float, float]]


class Device:
    """A worker that trains rounds in one of the two modes."""

    def __init__(self, mode: Mode, model: ModelSettings, optimizer: Literal["sgd", "adam"], directory: Path) -> None:
        self._mode = mode
        self._model = model
        self._training = TrainingSettings(
            optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3, compute="float32"
        )
        self._state, self._deltas = directory / f"{mode}.safetensors", directory / mode
        self._worker = WorkerProcess(WorkerOptions(device="cpu", threads=1))
        built = self._worker.call(Build(model=model, seed=1, state_path=str(self._state)), SECONDS)
        if not isinstance(built, Built) or self._worker.pid is None:
            raise SystemExit(f"the model cannot be built: {built}")
        self.blueprint: Blueprint = built.blueprint
        self._process = psutil.Process(self._worker.pid)

    def train(self, round: int, lpr: float, data: str) -> tuple[float, Trained]:
        """Processor seconds of a round at full depth, and what the worker says of it."""
        depth = self.blueprint.full_depth
        units = self.blueprint.exchanged_by(depth)
        job = Train(
            model=self._model,
            depth=depth,
            state_paths=(str(self._state),),
            sent=draw_sent_tensors(units, lpr=lpr, lpr_of={}, seed=1, round=round, device="device"),
            freeze=self._mode == "train",
            training=self._training,
            seed=round,
            head_seed=1,
            data=data,
            delta_dir=str(self._deltas),
        )
        before = self._process.cpu_times()
        result = self._worker.call(job, SECONDS)
        after = self._process.cpu_times()
        if not isinstance(result, Trained):
            raise SystemExit(f"training failed: {result}")
        return after.user + after.system - before.user - before.system, result

    def stop(self) -> None:
        self._worker.stop()


def compare(model: ModelSettings, optimizer: Literal["sgd", "adam"], lpr: float, rounds: int, data: str) -> Saved:
    """Trains all rounds in both modes; a round before them loads the data and is not counted."""
    taken: dict[Mode, list[tuple[float, Trained]]] = {"upload": [], "train": []}
    with tempfile.TemporaryDirectory() as directory:
        devices: dict[Mode, Device] = {mode: Device(mode, model, optimizer, Path(directory)) for mode in taken}
        for round in range(rounds + 1):
            for mode, device in devices.items():
                taken[mode].append(device.train(round, lpr if round else 1.0, data))
        for device in devices.values():
            device.stop()
    peaks = {mode: [result.peak_memory / 1e6 for _, result in done[1:]] for mode, done in taken.items()}
    return Saved(
        model=model.name,
        lpr=lpr,
        rounds=rounds,
        processor_s={mode: round_to(mean(seconds for seconds, _ in done[1:])) for mode, done in taken.items()},
        peak_mb={mode: (round_to(mean(peak)), round_to(max(peak))) for mode, peak in peaks.items()},
    )


def round_to(value: float) -> float:
    """Three digits after the point are more than such measurements hold."""
    return round(value, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["small-cnn", "fedlp-cnn"])
    parser.add_argument("--lpr", nargs="+", type=float, default=[1.0, 0.5, 0.3])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--data", default="fashion-mnist#limit=600")
    chosen = parser.parse_args()
    for name in chosen.models:
        for lpr in chosen.lpr:
            model = ModelSettings(name=name, input=(1, 28, 28))
            saved = compare(model, chosen.optimizer, lpr, chosen.rounds, chosen.data)
            print(msgspec.json.encode(saved).decode(), flush=True)


if __name__ == "__main__":
    main()
