"""How close the planner's prediction of memory and time comes, each case measured in a fresh process, as an agent does.

``python -m benchmarks.planner --out FILE`` calibrates once, then trains every model at every depth with two batch sizes
and writes one JSON line per case; an interrupted run goes on where it stopped. ``--plot PICTURE`` draws predicted
against measured from the file. Prints the share of cases within 10 % and the worst prediction in both directions.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from fedlp_edge.core.blueprint import Blueprint, DepthCost
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.prediction import epoch_seconds, training_memory
from fedlp_edge.core.settings import MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.worker.jobs import Build, Built, Calibrate, Calibrated, Measure, Train, Trained, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

MODELS = {
    "mlp": (1, 28, 28),
    "small-cnn": (1, 28, 28),
    "fedlp-cnn": (3, 32, 32),
    "torchvision:resnet18": (3, 64, 64),
    "torchvision:mobilenet_v2": (3, 64, 64),
    "torchvision:squeezenet1_1": (3, 64, 64),
    "torchvision:shufflenet_v2_x1_0": (3, 64, 64),
    "torchvision:mnasnet1_0": (3, 64, 64),
    "torchvision:efficientnet_b0": (3, 64, 64),
    "torchvision:regnet_y_400mf": (3, 64, 64),
    "torchvision:densenet121": (3, 64, 64),
    "torchvision:googlenet": (3, 64, 64),
    "torchvision:vgg11_bn": (3, 64, 64),
    "torchvision:resnext50_32x4d": (3, 64, 64),
    "torchvision:convnext_tiny": (3, 64, 64),
}
BATCHES = (16, 32)
STEPS = 4
SECONDS = 600.0


class Taken(msgspec.Struct, frozen=True):
    """What a fresh process measured.

    Attributes:
        samples: of a round.
        peak: bytes on top of the idle worker, every large block given back at once.
        roomy_peak: the same with the C library's own ways.
        seconds: of a round with the C library's own ways; processor time with one thread.
    """

    samples: int
    peak: int
    roomy_peak: int
    seconds: float


class Case(msgspec.Struct, frozen=True):
    """One measurement.

    Attributes:
        cost: of the depth, with its step table.
        taken: by training it.
    """

    model: str
    depth: int
    batch: int
    cost: DepthCost
    taken: Taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("planner.jsonl"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--report", action="store_true", help="only read what was measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(msgspec.json.encode(train(msgspec.json.decode(options.job, type=Train), options.threads)).decode())
        return
    calibration = load_calibration(options.out, options.threads)
    if not options.report:
        measure_all(options.out, options.models, options.threads)
    cases = read(options.out)
    print(msgspec.json.encode(summary(cases, calibration)).decode())
    if options.plot:
        draw(cases, calibration, options.plot)


def load_calibration(out: Path, threads: int) -> Calibration:
    """The machine's, measured once for a file of cases and kept beside it."""
    path = out.with_suffix(".calibration.json")
    if not path.exists():
        with WorkerProcess(WorkerOptions(threads=threads, device="cpu")) as worker:
            found = worker.call(Calibrate(processor_time=threads == 1), timeout=SECONDS)
        if not isinstance(found, Calibrated):
            sys.exit("the worker did not calibrate")
        path.write_bytes(msgspec.json.encode(found.calibration))
    return msgspec.json.decode(path.read_bytes(), type=Calibration)


def measure_all(out: Path, models: list[str], threads: int) -> None:
    """Measures what is not in the file yet."""
    done = {(case.model, case.depth, case.batch) for case in read(out)}
    for name in models:
        settings = ModelSettings(name=name, input=MODELS[name])
        with tempfile.TemporaryDirectory() as directory:
            blueprint = build(settings, Path(directory), threads)
            for depth in blueprint.depths:
                for batch in BATCHES:
                    if (name, depth, batch) in done:
                        continue
                    case = measure(settings, blueprint, depth, batch, Path(directory), threads)
                    with out.open("ab") as file:
                        file.write(msgspec.json.encode(case) + b"\n")
                    words = f"{name} depth {depth} batch {batch}: {case.taken.peak / 1e6:.1f} MB"
                    print(words, file=sys.stderr, flush=True)


def build(settings: ModelSettings, directory: Path, threads: int) -> Blueprint:
    """The blueprint with step tables; initial values are written to ``state.safetensors``."""
    with WorkerProcess(WorkerOptions(threads=threads, device="cpu")) as worker:
        job = Build(model=settings, state_path=str(directory / "state.safetensors"), steps=True)
        built = worker.call(job, timeout=SECONDS)
    if not isinstance(built, Built):
        sys.exit(f"{settings.name} cannot be built")
    return built.blueprint


def measure(
    settings: ModelSettings, blueprint: Blueprint, depth: int, batch: int, directory: Path, threads: int
) -> Case:
    """Three rounds in a fresh process: exact allocation first, then twice the C library's own ways."""
    data = directory / f"samples-{batch}.npz"
    if not data.exists():
        rng = np.random.default_rng(0)
        count = batch * STEPS * 5 // 4  # a fifth is held out
        x = rng.integers(0, 256, (count, *blueprint.input_shape), dtype=np.uint8)
        np.savez(data, x=x, y=np.arange(count) % blueprint.classes)
    job = Train(
        model=settings,
        depth=depth,
        state_paths=(str(directory / "state.safetensors"),),
        sent={unit.id: unit.state_names for unit in blueprint.exchanged_by(depth) if unit.tensors},
        freeze=False,
        training=TrainingSettings(batch_size=batch, lr=1e-4, compute="float32", memory=MemorySaving(allocator="exact")),
        seed=0,
        head_seed=0,
        data=f"npz:{data}",
        delta_dir=str(directory / "deltas"),
    )
    command = [sys.executable, "-m", "benchmarks.planner", "--job", msgspec.json.encode(job).decode()]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{settings.name} cannot be trained at depth {depth}: {done.stderr[-500:]}")
    taken = msgspec.json.decode(done.stdout.splitlines()[-1], type=Taken)
    return Case(settings.name, depth, batch, blueprint.costs[depth - 1], taken)


def train(job: Train, threads: int) -> Taken:
    """Does the job as a worker does, and again from within, since a worker reports no processor time."""
    from fedlp_edge.learning.data.dataset import load_data  # noqa: PLC0415
    from fedlp_edge.learning.memory.allocator import cached_allocation  # noqa: PLC0415
    from fedlp_edge.learning.training.loop import train_round  # noqa: PLC0415
    from fedlp_edge.worker.job_runner import JobRunner  # noqa: PLC0415

    runner = JobRunner(WorkerOptions(threads=threads, device="cpu"))
    runner.run(Measure(data=job.data, seconds=0.0))
    peaks, seconds = [], []
    cached = msgspec.structs.replace(job.training, memory=MemorySaving())
    for training in (job.training, cached):
        trained = runner.run(msgspec.structs.replace(job, training=training))
        if not isinstance(trained, Trained):
            sys.exit(str(trained))
        peaks.append(trained.peak_memory)
    model = runner.resources.models.submodel(job.model, job.depth).model
    data = load_data(job.data, "train")
    clock = time.process_time if threads == 1 else time.perf_counter
    with cached_allocation():
        for _ in range(2):
            start = clock()
            train_round(model, data, cached, seed=0, device=runner.resources.device)
            seconds.append(clock() - start)
    return Taken(len(data), peaks[0], peaks[1], min(seconds))


def read(path: Path) -> list[Case]:
    """All cases measured so far."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Case) for line in path.read_bytes().splitlines()]


def errors(cases: list[Case], calibration: Calibration | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative errors of memory, memory without exact allocation, and time, one per case; below 0 is too low."""
    exact, cached, times = [], [], []
    for case in cases:
        ways = (MemorySaving(allocator="exact"), MemorySaving())
        settings = [TrainingSettings(batch_size=case.batch, memory=way) for way in ways]
        exact.append(training_memory(case.cost, settings[0], calibration) / case.taken.peak - 1)
        cached.append(training_memory(case.cost, settings[1], calibration) / case.taken.roomy_peak - 1)
        times.append(
            epoch_seconds(case.cost, settings[1], case.taken.samples, 0.0, calibration) / case.taken.seconds - 1
        )
    return np.array(exact), np.array(cached), np.array(times)


def corrected(cases: list[Case], times: np.ndarray) -> np.ndarray:
    """Relative errors of time at a depth, once a round at another depth has shown how far off the device is."""
    after = []
    for target, case in enumerate(cases):
        for shown, other in enumerate(cases):
            if (other.model, other.batch) == (case.model, case.batch) and other.depth != case.depth:
                after.append((1 + times[target]) / (1 + times[shown]) - 1)
    return np.array(after)


def summary(cases: list[Case], calibration: Calibration) -> dict[str, float]:
    """What docs/planning.md reports."""
    exact, cached, times = errors(cases, calibration)
    return {
        "cases": len(cases),
        "models": len({case.model for case in cases}),
        "memory_within_10_percent": round(float(np.mean(np.abs(exact) <= 0.10)), 3),
        "memory_lowest": round(float(exact.min()), 3),
        "memory_highest": round(float(exact.max()), 3),
        "roomy_lowest": round(float(cached.min()), 3),
        "roomy_median": round(float(np.median(cached)), 3),
        "time_within_20_percent": round(float(np.mean(np.abs(times) <= 0.20)), 3),
        "time_within_20_percent_after_a_round": round(float(np.mean(np.abs(corrected(cases, times)) <= 0.20)), 3),
        "time_lowest": round(float(times.min()), 3),
        "time_highest": round(float(times.max()), 3),
    }


def draw(cases: list[Case], calibration: Calibration, path: Path) -> None:
    """Predicted against measured, memory and time."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    exact, _, times = errors(cases, calibration)
    panels = (
        ("memory of training, MB", np.array([case.taken.peak / 1e6 for case in cases]), exact, 0.10),
        (
            "time of a step, ms",
            np.array([1e3 * case.taken.seconds * case.batch / case.taken.samples for case in cases]),
            times,
            0.20,
        ),
    )
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for axis, (label, measured, error, band) in zip(axes, panels, strict=True):
        axis.set_prop_cycle(color=plt.get_cmap("tab20")(np.arange(20)))
        line = np.array([measured.min() / 1.3, measured.max() * 1.3])
        axis.fill_between(line, line * (1 - band), line * (1 + band), color="0.9", label=f"within {band:.0%}")
        for model in dict.fromkeys(case.model for case in cases):
            mine = [number for number, case in enumerate(cases) if case.model == model]
            name = model.removeprefix("torchvision:")
            axis.plot(measured[mine], (measured * (1 + error))[mine], ".", markersize=6, label=name)
        axis.plot(line, line, color="0.5", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel=f"measured: {label}", ylabel="predicted")
    axes[1].legend(fontsize=6, loc="lower right")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
