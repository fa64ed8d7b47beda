"""What memory a worker takes that trains on far more pictures than fit, beside the planner's figure and the cache.

``python -m benchmarks.lazy_pictures --pictures 100000`` makes a few JPEGs and links each many times, so that the
folder has the size of a large one without taking its place on the disk, trains on it for some time in a fresh process
and prints one JSON line. The folder is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.planner import build
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.prediction import training_memory
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.worker.jobs import DeviceMeasurement, Measure, Train, Trained, WorkerOptions

MEGABYTE = 1e6
FILES = 8  # different pictures; a file system allows some ten thousand links to each
SIDE = 640  # pixels


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; memory in MB of 10^6 bytes.

    Attributes:
        processor: Name of the processor.
        threads: Threads of training.
        pictures: Number of pictures.
        folder_gb: Size of all files as if none were linked, GB.
        cache: Bound of the cache.
        listing: Resident memory that the list of files takes.
        planned: The planner's figure for training.
        peak: Most resident memory while training, on top of the idle worker that knows the list of files.
        below: Whether the peak is below plan plus cache.
        samples: Pictures trained.
        seconds: Seconds of training.
    """

    processor: str
    threads: int
    pictures: int
    folder_gb: float
    cache: float
    listing: float
    planned: float
    peak: float
    below: bool
    samples: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--model", default="small-cnn")
    parser.add_argument("--side", type=int, default=64, help="pixels of the model's pictures")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cache", type=int, default=256, help="MB")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(msgspec.json.encode(train(msgspec.json.decode(options.job, type=Train), options.threads)).decode())
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as place:
        print(msgspec.json.encode(measure(options, Path(place))).decode())


def measure(options: argparse.Namespace, place: Path) -> Result:
    """Makes the folder, and trains on it in a fresh process."""
    size = make_folder(place / "pictures", options.pictures)
    settings = ModelSettings(name=options.model, input=(3, options.side, options.side), classes=2)
    blueprint = build(settings, place, options.threads)
    job = job_of(options, settings, blueprint, place)
    command = [sys.executable, "-m", "benchmarks.lazy_pictures", "--job", msgspec.json.encode(job).decode()]
    done = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-1000:])
    listing, peak, samples, seconds = msgspec.json.decode(
        done.stdout.splitlines()[-1], type=tuple[int, int, int, float]
    )
    planned = training_memory(blueprint.costs[-1], job.training, None)
    cache = parse_spec(job.data).memory_bound
    return Result(
        processor=processor_name(),
        threads=options.threads,
        pictures=options.pictures,
        folder_gb=round(size / 1e9, 2),
        cache=cache / MEGABYTE,
        listing=round(listing / MEGABYTE, 1),
        planned=round(planned / MEGABYTE, 1),
        peak=round(peak / MEGABYTE, 1),
        below=peak <= planned + cache,
        samples=samples,
        seconds=round(seconds, 1),
    )


def make_folder(root: Path, pictures: int) -> int:
    """Makes two classes of pictures, most of them links; returns the bytes of all."""
    from PIL import Image  # noqa: PLC0415

    rng = np.random.default_rng(0)
    originals = []
    for number in range(FILES):
        folder = root / ("even", "odd")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:07}.jpg"
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path, quality=60)
        originals.append(path)
    for number in range(FILES, pictures):
        original = originals[number % FILES]
        os.link(original, original.with_name(f"{number:07}.jpg"))
    return sum(originals[number % FILES].stat().st_size for number in range(pictures))


def job_of(options: argparse.Namespace, settings: ModelSettings, blueprint: Blueprint, place: Path) -> Train:
    depth = blueprint.depths[-1]
    return Train(
        model=settings,
        depth=depth,
        state_paths=(str(place / "state.safetensors"),),
        sent={unit.id: unit.state_names for unit in blueprint.exchanged_by(depth) if unit.tensors},
        freeze=False,
        training=TrainingSettings(batch_size=options.batch, lr=1e-3, compute="float32"),
        seed=0,
        head_seed=0,
        data=f"imagefolder:{place / 'pictures'}#cache={options.cache}",
        delta_dir=str(place / "deltas"),
        seconds=options.seconds,
    )


def train(job: Train, threads: int) -> tuple[int, int, int, float]:
    """Returns bytes of the list of files, bytes of training on top of the idle worker, samples and seconds."""
    from fedlp_edge.worker.job_runner import JobRunner  # noqa: PLC0415

    runner = JobRunner(WorkerOptions(threads=threads, device="cpu"))
    idle = runner.run(Measure(seconds=0.0))
    listed = runner.run(Measure(data=job.data, seconds=0.0))
    if not isinstance(idle, DeviceMeasurement) or not isinstance(listed, DeviceMeasurement):
        sys.exit(f"{idle} {listed}")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    trained = runner.run(job)
    if not isinstance(trained, Trained):
        sys.exit(str(trained))
    peak = next(int(line.split()[1]) * 1024 for line in _status() if line.startswith("VmHWM"))
    return listed.idle_memory - idle.idle_memory, peak - listed.idle_memory, trained.samples, trained.seconds


def _status() -> list[str]:
    return Path("/proc/self/status").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
