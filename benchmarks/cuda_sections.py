"""The sections of ``benchmarks/cuda_check.py``; each runs in a process of its own, on a GPU or on a CPU."""

from __future__ import annotations

import hashlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from unittest import mock

import msgspec
import numpy as np

from benchmarks.planner import MODELS
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.planning.prediction import ANY_DEVICE, ON_CUDA, training_memory
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import (
    MemorySaving,
    ModelSettings,
    ObjectiveSettings,
    SchemeSettings,
    TrainingSettings,
)
from fedlp_edge.reporting.events import AnyEvent, RoundFinished
from fedlp_edge.reporting.summary import load
from fedlp_edge.simulation import Experiment, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData, SimulationSettings
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.worker.jobs import (
    Build,
    Built,
    DeviceMeasurement,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Failed,
    Measure,
    Train,
    Trained,
    WorkerOptions,
)

if TYPE_CHECKING:
    from torch import nn

    from fedlp_edge.worker.job_runner import JobRunner

Processor = Literal["cpu", "cuda"]
Figure = float | int | str
T = TypeVar("T")

GOAL_RATIO = 10.0
"""Rounds of a simulation on a GPU for one on two CPU cores."""

TOLERANCE = 0.10
"""Largest relative error of the planner's memory."""

MEMORY_MODELS = dict(itertools.islice(MODELS.items(), 6))
"""The first six models of the planner's benchmark, with the shapes of their inputs."""

SMALL = ModelSettings(name="small-cnn", input=(1, 8, 8), classes=10)
WIDE = ModelSettings(name="benchmarks.cuda_sections:wide_layers", input=(2048,), classes=10)


class CheckError(Exception):
    """What a section checks does not hold; its text says what came instead."""


class Outcome(msgspec.Struct, frozen=True):
    """What a section found.

    Attributes:
        status: ``skipped`` where only a GPU can show it.
        text: One line for people.
        figures: Measured numbers by name.
    """

    status: Literal["pass", "fail", "skipped"]
    text: str
    figures: dict[str, Figure] = {}


def wide_layers() -> nn.Module:
    """Three wide linear layers, of which each takes 50 MB more in training."""
    from torch import nn  # noqa: PLC0415

    layers = [nn.Sequential(nn.Linear(2048, 2048), nn.ReLU()) for _ in range(3)]
    return nn.Sequential(*layers, nn.Linear(2048, 10))


def fleet(processor: Processor) -> Outcome:
    """A coordinator and two agents over the embedded broker, one on the GPU and one on the CPU."""
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker() as broker:
        directory = Path(name)
        config = directory / "fleet.toml"
        config.write_text(
            f'fleet = "check"\n[broker]\nurl = "{broker.url}"\n'
            '[model]\nname = "small-cnn"\ninput = [1, 8, 8]\nclasses = 10\n'
            '[rounds]\ncount = 2\nmin_devices = 2\ndeadline_seconds = 60.0\n[export]\ndepths = "none"\n'
        )
        kinds = {"first": processor, "second": "cpu"}
        commands = {"coordinator": ["coordinator", "--config", str(config), "--out", str(directory / "run"), "--quiet"]}
        for number, (device, kind) in enumerate(kinds.items()):
            data = f"digits#share={number}/2&partition=iid&seed=1&limit=200"
            commands[device] = [
                *("device_agent", "--broker", broker.url, "--fleet", "check", "--id", device, "--data", data),
                *("--device", kind, "--state", str(directory / device), "--once", "--no-calibrate", "--threads", "1"),
            ]
        processes = {}
        try:
            for part, command in commands.items():
                with (directory / f"{part}.log").open("wb") as log:
                    processes[part] = subprocess.Popen(
                        [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
            codes = {part: process.wait(100) for part, process in processes.items()}
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
        if any(codes.values()):
            logs = " | ".join((directory / f"{part}.log").read_text()[-300:] for part, code in codes.items() if code)
            raise CheckError(f"ended with {codes}: {' '.join(logs.split())}")
        summary = load(directory / "run" / "summary.json")
        per_round = [{d.id: d.status for d in one.devices} for one in summary.rounds]
        seconds = {d.id: d.seconds for d in summary.rounds[-1].devices}
        if len(per_round) != 2 or any(one != dict.fromkeys(kinds, "contributed") for one in per_round):
            raise CheckError(f"the rounds had {per_round}")
        figures: dict[str, Figure] = {
            f"training_seconds_{device}_{kinds[device]}": round(taken, 4) for device, taken in seconds.items()
        }
        return Outcome("pass", f"{kinds['first']} and cpu contributed to both rounds", figures)


def memory(processor: Processor) -> Outcome:
    """The planner's memory of six models at all depths, beside what PyTorch's allocator counts at its highest."""
    calibration = ON_CUDA if processor == "cuda" else ANY_DEVICE
    runner = _runner(processor)
    figures: dict[str, Figure] = {}
    errors = []
    training = TrainingSettings(
        batch_size=16, lr=1e-4, compute="float32", memory=MemorySaving("cached" if processor == "cuda" else "exact")
    )
    # On a CPU this shows that the section works, and nothing of a GPU's memory.
    models = itertools.islice(MEMORY_MODELS.items(), None if processor == "cuda" else 3)
    for name, shape in models:
        with tempfile.TemporaryDirectory() as directory:
            settings = ModelSettings(name=name, input=shape, classes=10)
            blueprint = _build(runner, settings, Path(directory), steps=True)
            data = _made_data(Path(directory), shape, 32)
            depths = blueprint.depths if processor == "cuda" else sorted({1, blueprint.full_depth})
            for depth in depths:
                job = _job(settings, blueprint, depth, Path(directory), data, training)
                taken = _result(runner.run(job), Trained).peak_memory
                error = training_memory(blueprint.costs[depth - 1], training, calibration) / max(1, taken) - 1
                figures[f"{name} depth {depth}"] = f"{taken / 1e6:.1f} MB, predicted {error:+.1%}"
                errors.append(error)
    within = sum(abs(error) <= TOLERANCE for error in errors)
    said = f"{within} of {len(errors)} depths within 10 %, {min(errors):+.1%} to {max(errors):+.1%}"
    if processor == "cpu":
        trained = "the shallowest and the deepest depth of three models trained"
        text = f"{trained} ({said}, in one process, which benchmarks.planner avoids); skipped: no GPU to judge"
        return Outcome("skipped", text, figures)
    return Outcome("pass" if within == len(errors) else "fail", said, figures)


def compute(processor: Processor) -> Outcome:
    """The trial of number formats and layouts, with an objective that needs the labels where the model is."""
    from fedlp_edge.learning.data.dataset import load_data  # noqa: PLC0415
    from fedlp_edge.learning.torch_device import choose_device  # noqa: PLC0415
    from fedlp_edge.learning.training.compute_modes import candidates, has_bfloat16  # noqa: PLC0415
    from fedlp_edge.learning.training.compute_trial import try_out  # noqa: PLC0415
    from fedlp_edge.learning.zoo.build import build_untrained  # noqa: PLC0415

    device, _ = choose_device(processor)
    figures: dict[str, Figure] = {"native_bfloat16": str(has_bfloat16(device))}
    broken = []
    training = TrainingSettings(objective=ObjectiveSettings(logit_adjustment=1.0, mask_absent=True))
    for name, shape in (("small-cnn", (1, 28, 28)), ("fedlp-cnn", (3, 32, 32))):
        model = build_untrained(ModelSettings(name=name, input=shape, classes=10), 0, allow_models=())
        submodel = model.submodel(model.depths[-1]).to(device)
        with tempfile.TemporaryDirectory() as directory:
            data = load_data(_made_data(Path(directory), shape, 40), "train")
            choice = try_out(submodel, data, training, device)
        figures |= {f"{name} {mode} ms": round(1e3 * taken, 3) for mode, taken in choice.seconds.items()}
        figures |= {f"{name} not {mode}": why for mode, why in choice.refused.items()}
        figures[f"{name} choice"] = choice.compute
        untried = set(candidates(submodel, device)) - set(choice.seconds)
        broken += [f"{name} {mode}: {choice.refused.get(mode, 'not tried')}" for mode in sorted(untried)]
    if broken:
        raise CheckError("; ".join(broken))
    chosen = ", ".join(f"{key}: {value}" for key, value in figures.items() if key.endswith("choice"))
    return Outcome("pass", chosen, figures)


def out_of_memory(processor: Processor) -> Outcome:
    """A limit that the deepest depth exceeds: training fails, the planner takes one depth less, which trains."""
    with tempfile.TemporaryDirectory() as name:
        from fedlp_edge.learning.memory.limits import SLACK_BYTES  # noqa: PLC0415

        directory = Path(name)
        training = TrainingSettings(batch_size=4, lr=1e-3, compute="float32", memory=MemorySaving("exact"))
        free = _runner(processor)
        blueprint, full = _build(free, WIDE, directory, steps=True), 3
        data = _made_data(directory, WIDE.input, 16)
        jobs = {depth: _job(WIDE, blueprint, depth, directory, data, training) for depth in (full, full - 1)}
        peaks = {depth: _result(free.run(job), Trained).peak_memory for depth, job in jobs.items()}
        limit = (peaks[full] + peaks[full - 1]) // 2 - SLACK_BYTES
        figures: dict[str, Figure] = {f"peak_mb_depth_{depth}": round(peak / 1e6, 1) for depth, peak in peaks.items()}
        figures["limit_mb"] = round(limit / 1e6, 1)
        del free
        limited = _runner(processor, memory_bytes=limit)
        failed = limited.run(jobs[full])
        if not isinstance(failed, Failed) or failed.kind != "memory":
            raise CheckError(f"depth {full} should run out of memory with {limit / 1e6:.0f} MB, and gave {failed}")
        if limited.needs_new_process:
            raise CheckError("the process that ran out of memory cannot go on")
        facts = DeviceFacts(training_memory=limit, training_macs_per_second=1e9, samples=16)
        planner = AdaptivePlanner(blueprint, PlanningRules(scheme=SchemeSettings(), training=training))
        planned = planner.after_memory_failure(Plan(full, 1.0, "", peaks[full], 0.0), facts, failed.reason)
        if planned is None or planned.depth != full - 1:
            raise CheckError(f"the planner made {planned} of the failure")
        _result(limited.run(jobs[planned.depth]), Trained)
        return Outcome("pass", f"depth {full} ran out of memory, depth {planned.depth} trained after it", figures)


def determinism(processor: Processor) -> Outcome:
    """The same task twice gives the same bits, for a model with pools and one with batch norms and depthwise layers."""
    figures: dict[str, Figure] = {}
    differing = []
    for name, shape in (("small-cnn", (1, 28, 28)), ("torchvision:mobilenet_v2", (3, 32, 32))):
        settings = ModelSettings(name=name, input=shape, classes=10)
        digests = []
        with tempfile.TemporaryDirectory() as where:
            for attempt in ("a", "b"):
                directory = Path(where) / attempt
                directory.mkdir()
                runner = _runner(processor)
                blueprint = _build(runner, settings, directory)
                data = _made_data(directory, shape, 64)
                training = TrainingSettings(batch_size=16, compute="float32")
                _result(runner.run(_job(settings, blueprint, blueprint.full_depth, directory, data, training)), Trained)
                digests.append(_digest(directory / "deltas"))
        figures[name] = " ".join(dict.fromkeys(digests))
        if len(set(digests)) > 1:
            differing.append(name)
    text = f"two runs differ: {', '.join(differing)}" if differing else "both runs gave the same bits"
    return Outcome("fail" if differing else "pass", text, figures)


def simulation(processor: Processor) -> Outcome:
    """A hundred devices in every round: the GPU, shared by a few workers, beside two workers on the CPU."""
    with tempfile.TemporaryDirectory() as where:
        data = _made_data(Path(where), (1, 28, 28), 6000 if processor == "cuda" else 1000)

        def seconds(device: Processor, workers: int) -> float:
            ends: list[float] = []

            def see(event: AnyEvent) -> None:
                if isinstance(event, RoundFinished):
                    ends.append(event.time)

            experiment = Experiment(
                name="check",
                model=ModelSettings(name="small-cnn", input=(1, 28, 28), classes=10),
                data=SimulatedData(train=data, evaluate=""),
                training=TrainingSettings(compute="float32", batch_size=20),
                scheme=SchemeSettings(depth="full"),
                rounds=RoundSettings(count=3),
                fleet=FleetSettings(devices=100),
                simulation=SimulationSettings(workers=workers, device=device),
            )
            summary = simulate(experiment, Path(where) / f"{device}-{workers}", on_event=see)
            contributors = [sum(d.status == "contributed" for d in one.devices) for one in summary.rounds]
            if contributors != [100] * 3:
                raise CheckError(f"{contributors} of 100 devices contributed on {device}")
            return statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))

        cpu = seconds("cpu", 2)
        figures: dict[str, Figure] = {"seconds_a_round_cpu_2_workers": round(cpu, 3)}
        if processor == "cpu":
            return Outcome("skipped", f"{cpu:.2f} s a round on the CPU; skipped: no GPU to compare", figures)
        workers = min(8, max(2, len(os.sched_getaffinity(0))))
        gpu = seconds("cuda", workers)
        figures |= {f"seconds_a_round_cuda_{workers}_workers": round(gpu, 3), "ratio": round(cpu / gpu, 2)}
        text = f"{cpu / gpu:.1f} times two CPU cores (goal {GOAL_RATIO:.0f}); each worker trains one client at a time"
        return Outcome("pass" if cpu / gpu >= GOAL_RATIO else "fail", text, figures)


def onnx(processor: Processor) -> Outcome:
    """What is trained and judged on the GPU is exported, and onnxruntime's CPU provider judges the same samples."""
    with tempfile.TemporaryDirectory() as name:
        directory, runner = Path(name), _runner(processor)
        blueprint = _build(runner, SMALL, directory)
        full, state = blueprint.full_depth, directory / "state.safetensors"
        training = TrainingSettings(epochs=3, compute="float32")
        _result(runner.run(_job(SMALL, blueprint, full, directory, "digits", training)), Trained)
        _add_changes(state, directory / "deltas", blueprint)
        depths = tuple(blueprint.depths)
        job = Evaluate(model=SMALL, state_path=str(state), depths=depths, data="digits")
        judged = _result(runner.run(job), Evaluated)
        export = Export(
            model=SMALL, state_paths=(str(state),), depths=depths, data="digits", directory=str(directory / "onnx")
        )
        exported = _result(runner.run(export), Exported)
        if exported.refused or len(exported.models) != len(depths):
            raise CheckError(f"refused: {exported.refused}")
        figures: dict[str, Figure] = {}
        worst = 0.0
        for model in exported.models:
            apart = abs((model.accuracy or 0.0) - judged.scores.accuracy[model.depth])
            figures[f"depth {model.depth} max_abs_diff"] = model.max_abs_diff
            figures[f"depth {model.depth} accuracy"] = round(judged.scores.accuracy[model.depth], 4)
            worst = max(worst, apart)
        figures["largest_difference_of_accuracy"] = round(worst, 4)
        text = f"{len(depths)} files; accuracy of {processor} and onnxruntime at most {100 * worst:.2f} points apart"
        return Outcome("pass" if worst <= 0.005 else "fail", text, figures)


def fallback(processor: Processor) -> Outcome:
    """A GPU that is hidden, one that is listed and does not work, and one that fails in the middle."""
    import torch  # noqa: PLC0415

    from fedlp_edge.learning import torch_device  # noqa: PLC0415
    from fedlp_edge.worker.job_runner import JobRunner  # noqa: PLC0415
    from fedlp_edge.worker.process import WorkerProcess  # noqa: PLC0415

    for hidden in ("", "-1"):
        found = subprocess.run(
            [sys.executable, "-c", "from benchmarks.cuda_sections import print_choices; print_choices()"],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": hidden},
            capture_output=True,
            text=True,
            check=False,
        )
        if found.stdout.splitlines()[-1:] != ["cpu worker"]:
            raise CheckError(f'CUDA_VISIBLE_DEVICES="{hidden}" gave {found.stdout[-200:]} {found.stderr[-200:]}')
    broken = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        mock.patch.object(torch.cuda, "synchronize", side_effect=broken),
    ):
        chosen, note = torch_device.choose_device("auto")
        measured = _result(_runner("auto").run(Measure(seconds=0.05)), DeviceMeasurement)
    if chosen.type != "cpu" or "does not work" not in note or (measured.processor, measured.note) != ("cpu", note):
        raise CheckError(f"a broken GPU gave {chosen}, {note!r}, {measured}")
    if processor == "cpu":
        return Outcome("pass", "hidden and broken GPUs leave training to the CPU; a failure in the middle: no GPU")
    with tempfile.TemporaryDirectory() as name:
        directory, runner = Path(name), _runner("auto")
        blueprint = _build(runner, SMALL, directory)
        job = _job(SMALL, blueprint, 1, directory, "digits#limit=100", TrainingSettings(compute="float32"))
        _result(runner.run(job), Trained)
        with mock.patch(f"{JobRunner.__module__}.train", side_effect=_fail_on_gpu):
            failed = runner.run(job)
        if not (isinstance(failed, Failed) and failed.again and runner.needs_new_process):
            raise CheckError(f"a failure of the GPU gave {failed}")
        with WorkerProcess(WorkerOptions(device="auto")) as worker:
            again = msgspec.structs.replace(job, after_crash=failed.reason)
            trained = _result(worker.call(again, timeout=40.0), Trained)
            measured = _result(worker.call(Measure(seconds=0.05), timeout=20.0), DeviceMeasurement)
    if measured.processor != "cpu":
        raise CheckError(f"after a failure of the GPU, {measured.processor} trains: {trained.notes}")
    return Outcome("pass", f"hidden, broken and failing GPUs leave training to the CPU ({failed.reason})")


SECTIONS: dict[str, tuple[Callable[[Processor], Outcome], float]] = {
    "fleet": (fleet, 110.0),
    "memory": (memory, 240.0),
    "compute": (compute, 60.0),
    "out of memory": (out_of_memory, 60.0),
    "determinism": (determinism, 60.0),
    "simulation": (simulation, 110.0),
    "onnx": (onnx, 90.0),
    "fallback": (fallback, 60.0),
}
"""Sections in order, with the most seconds that each may take on a machine with a GPU."""


def print_choices() -> None:
    """Prints the processor that ``auto`` gets, and the kind of the error that ``cuda`` gets."""
    found = _result(_runner("auto").run(Measure(seconds=0.05)), DeviceMeasurement)
    refused = _runner("cuda").run(Measure(seconds=0.05))
    print(found.processor, refused.kind if isinstance(refused, Failed) else refused)


def _fail_on_gpu(*_: object) -> None:
    """Reads behind the end of a tensor on the GPU: no later call of CUDA in this process succeeds."""
    import torch  # noqa: PLC0415

    places = torch.tensor([1 << 20], device="cuda")
    torch.zeros(2, device="cuda")[places].sum().item()
    raise CheckError("the GPU reads behind the end of a tensor")


def _runner(device: str, memory_bytes: int | None = None) -> JobRunner:
    from fedlp_edge.worker.job_runner import JobRunner  # noqa: PLC0415

    # Not the number of threads, which a process can set once.
    return JobRunner(WorkerOptions(threads=0, device=device, memory_bytes=memory_bytes, allow_models=(WIDE.name,)))


def _result(found: object, kind: type[T]) -> T:
    if not isinstance(found, kind):
        raise CheckError(found.reason if isinstance(found, Failed) else str(found))
    return found


def _build(runner: JobRunner, settings: ModelSettings, directory: Path, *, steps: bool = False) -> Blueprint:
    job = Build(model=settings, seed=1, state_path=str(directory / "state.safetensors"), steps=steps)
    return _result(runner.run(job), Built).blueprint


def _job(
    settings: ModelSettings, blueprint: Blueprint, depth: int, directory: Path, data: str, training: TrainingSettings
) -> Train:
    return Train(
        model=settings,
        depth=depth,
        state_paths=(str(directory / "state.safetensors"),),
        sent={unit.id: tuple(tensor.name for tensor in unit.tensors) for unit in blueprint.exchanged_by(depth)},
        freeze=False,
        training=training,
        seed=5,
        head_seed=6,
        data=data,
        delta_dir=str(directory / "deltas"),
    )


def _made_data(directory: Path, shape: tuple[int, ...], samples: int) -> str:
    """A file of random samples of ten classes, from which a tenth of the classes' signal can be learned."""
    path = directory / f"samples-{samples}.npz"
    rng = np.random.default_rng(0)
    kept = samples * 5 // 4  # a fifth is held out
    x = rng.integers(0, 256, (kept, *shape), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(kept) % 10)
    return f"npz:{path}"


def _digest(directory: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(directory.iterdir()))).hexdigest()[:16]


def _add_changes(state: Path, deltas: Path, blueprint: Blueprint) -> None:
    """Writes the state after a round of one device."""
    from safetensors.numpy import load_file, save_file  # noqa: PLC0415

    values = load_file(state)
    for path in deltas.iterdir():
        for name, change in load_file(path).items():
            values[name] = change if name in blueprint.statistics else values[name] + change
    save_file(values, state)
