"""How fast a simulation is, beside the same federated averaging written plainly in PyTorch, in the same run.

    python -m benchmarks.simulation

Ten devices with 600 Fashion-MNIST pictures each learn a small network for five rounds, all devices in every round.
Prints one JSON line; benchmarks/README.md explains its keys.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import msgspec
import numpy as np
import psutil

from benchmarks.fleets.models import MODELS
from benchmarks.plain_loop import Plain, run_plain
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings
from fedlp_edge.reporting.events import AnyEvent, RoundFinished, RoundStarted
from fedlp_edge.simulation import Experiment, local_engine, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData, SimulationSettings
from fedlp_edge.simulation.simulated_data import assign_data, read_simulation_data

PICTURES = 600
COMPUTE = ["float32", "float32-channels-last", "bfloat16-channels-last"]


@dataclass
class Watched:
    """A simulated run from outside."""

    rounds: int
    began: float = field(default_factory=time.perf_counter)
    started: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def see(self, event: AnyEvent) -> None:
        if isinstance(event, RoundStarted):
            self.started.append(time.perf_counter())
            self.cpu.append(processor_seconds())
        # Reading memory takes some of the time that is measured: twice is enough to see whether it grows.
        if isinstance(event, RoundFinished) and event.round in (1, self.rounds - 1):
            self.memory.append(memory_bytes())


def processor_seconds() -> float:
    """Of this process and its workers so far."""
    return sum(sum(process.cpu_times()[:2]) for process in family())


def memory_bytes() -> int:
    """Of this process and its workers; what they share counts once."""
    return sum(process.memory_full_info().pss for process in family())


def family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def torch_import_seconds() -> float:
    """How long a fresh process takes to import torch."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start


def experiment(args: argparse.Namespace) -> Experiment:
    """The workload; ``--fleet N`` makes it a crowd of N small devices with a tenth of them in each round."""
    crowd = args.fleet or 0
    return Experiment(
        name="benchmark",
        model=MODELS["small"].settings,
        data=SimulatedData(limit=PICTURES if not crowd else 60),
        training=TrainingSettings(lr=0.05, momentum=0.9, batch_size=32),
        scheme=SchemeSettings(depth="full"),
        rounds=RoundSettings(count=args.rounds, devices_per_round=crowd // 10, keep_checkpoints=1),
        fleet=FleetSettings(devices=crowd or 10),
        simulation=SimulationSettings(workers=args.workers, evaluate_every=args.rounds),
    )


def run_ours(args: argparse.Namespace, compute: str) -> dict[str, object]:
    """One simulated run."""
    run = experiment(args)
    run = msgspec.structs.replace(run, training=msgspec.structs.replace(run.training, compute=compute))
    watched = Watched(args.rounds)
    with tempfile.TemporaryDirectory() as directory, local_engine(args.workers) as engine:
        summary = simulate(run, directory, engine=engine, on_event=watched.see)
    ends = [b - a for a, b in zip(watched.started, watched.started[1:], strict=False)]
    cpu = [b - a for a, b in zip(watched.cpu, watched.cpu[1:], strict=False)]
    return {
        "round_median_s": round(statistics.median(ends[1:]), 4),
        "first_round_s": round(ends[0], 4),
        "startup_s": round(watched.started[0] - watched.began, 3),
        "cpu_s_per_round": round(statistics.median(cpu[1:]), 3),
        "accuracy": max(summary.rounds[-1].accuracy.values()),
        "memory_mb": [round(nbytes / 1e6) for nbytes in watched.memory],
    }


def run_ideal(args: argparse.Namespace) -> Plain:
    """The plain loop on the same samples."""
    run = experiment(args)
    pictures = read_simulation_data(run.data.train, run.data.evaluate)
    assignment = assign_data(run, pictures).arrays
    x, y = pictures.arrays["train/x"], pictures.arrays["train/y"]
    shares = [(x[kept], y[kept]) for kept in np.split(assignment["members"], assignment["starts"][1:-1])]
    return run_plain(
        shares,
        (pictures.arrays["test/x"], pictures.arrays["test/y"]),
        processes=args.workers,
        rounds=args.rounds,
        lr=run.training.lr,
        momentum=run.training.momentum,
        batch_size=run.training.batch_size,
        mean=pictures.mean[0],
        std=pictures.std[0],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6, help="the last one is not timed")
    parser.add_argument(
        "--compute",
        nargs="+",
        default=["float32", "float32-channels-last", "bfloat16-channels-last"],
        help="see [training] compute",
    )
    parser.add_argument("--fleet", type=int, help="instead: so many devices of 60 pictures, a tenth in each round")
    args = parser.parse_args()
    if args.rounds < 3:
        parser.error("--rounds must be 3 or more: neither the first nor the last one is a usual one")
    said: dict[str, object] = {"workers": args.workers, "devices": args.fleet or 10}
    if args.fleet:
        print(json.dumps(said | {compute: run_ours(args, compute) for compute in args.compute}))
        return
    said["torch_import_s"] = round(torch_import_seconds(), 3)
    ideal = run_ideal(args)
    said["ideal"] = {
        "round_median_s": round(statistics.median(ideal.rounds[1:]), 4),
        "first_round_s": round(ideal.rounds[0], 4),
        "startup_s": round(ideal.startup, 3),
        "cpu_s_per_round": round(statistics.median(ideal.cpu[1:]), 3),
        "accuracy": ideal.accuracy,
    }
    for compute in args.compute:
        said[compute] = run_ours(args, compute)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
