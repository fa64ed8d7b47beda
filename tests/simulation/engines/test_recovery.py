"""Worker processes that die in the middle of a run: what is learned is what would have been learned without."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ComputeMode, MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.errors import WorkerError
from fedlp_edge.reporting.events import AnyEvent, RoundFinished, RoundStarted, UpdateAccepted, WorkerReplaced
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.base import QueuedJob, collect_sums, run_jobs
from fedlp_edge.simulation.engines.jobs import (
    ChooseCompute,
    CollectSums,
    ComputeChosen,
    DeviceTrained,
    Reply,
    SimulationJob,
    SimulationWorkerDied,
    SumsCollected,
    TrainDevice,
)
from fedlp_edge.simulation.engines.recovery import RecoveringEngine, death
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData
from fedlp_edge.system.processor_info import torch_version
from tests.simulation.conftest import experiment, started_engine

# Real processes


@pytest.fixture(scope="module")
def killable() -> Iterator[tuple[LocalEngine, Callable[[int, int], None]]]:
    """Two workers, and a function that sends one of them a signal and waits for its end."""
    before = set(psutil.Process().children())
    with started_engine() as engine:
        (starter,) = set(psutil.Process().children()) - before

        def kill(worker: int, number: int) -> None:
            process = sorted(starter.children(), key=lambda child: child.pid)[worker]
            os.kill(process.pid, number)

        yield engine, kill


def digest(summary: Summary) -> str:
    assert summary.final is not None
    return summary.final.model_digest


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, engine: LocalEngine) -> Summary:
    return simulate(experiment(), tmp_path_factory.mktemp("undisturbed"), engine=engine)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["out-of-memory", "crash"])
@pytest.mark.parametrize("moment", [0, 1, 4, 5], ids=["first", "with-sums", "last", "between"])
def test_worker_that_is_killed_costs_nothing_of_the_model(
    number: int,
    moment: int,
    killable: tuple[LocalEngine, Callable[[int, int], None]],
    undisturbed: Summary,
    tmp_path: Path,
) -> None:
    """One in the first of two rounds of five updates, the other in the second; in the end they hold sums alone."""
    engine, kill = killable
    seen: list[AnyEvent] = []

    def watch(event: AnyEvent) -> None:
        seen.append(event)
        begun = sum(isinstance(one, RoundStarted) for one in seen)
        done = sum(isinstance(one, UpdateAccepted) for one in seen)
        if isinstance(event, RoundStarted | UpdateAccepted) and done == 5 * (begun - 1) + moment:
            kill(begun - 1, number)

    summary = simulate(experiment(), tmp_path, engine=engine, on_event=watch)
    assert digest(summary) == digest(undisturbed)
    assert [entry.accuracy for entry in summary.rounds] == [entry.accuracy for entry in undisturbed.rounds]
    assert {device.status for entry in summary.rounds for device in entry.devices} == {"contributed"}
    told = [event.reason for event in seen if isinstance(event, WorkerReplaced)]
    assert told
    assert all(signal.Signals(number).name in line for line in told)
    assert sum(isinstance(event, RoundFinished) for event in seen) == 2


def fragile(name: str, compute: ComputeMode) -> dict[str, object]:
    return {
        "model": ModelSettings(name=f"tests.field.fragile:{name}", input=(1, 8, 8), classes=10),
        "training": TrainingSettings(batch_size=16, compute=compute),
        "data": SimulatedData(train="digits", evaluate="digits", partition="iid", limit=60),
        "fleet": FleetSettings(devices=3, depth_mix=(0.0, 1.0)),
        "rounds": RoundSettings(count=2, devices_per_round=3),
    }


def test_device_whose_mode_crashes_computes_in_float32_from_then_on(tmp_path: Path, engine: LocalEngine) -> None:
    plain = simulate(experiment(**fragile("crashes", "float32")), tmp_path / "plain", engine=engine)
    seen: list[AnyEvent] = []
    crashing = simulate(
        experiment(**fragile("crashes", "bfloat16")), tmp_path / "crashing", engine=engine, on_event=seen.append
    )
    assert digest(crashing) == digest(plain)
    assert {(d.status, d.compute) for r in crashing.rounds for d in r.devices} == {("contributed", "float32")}
    assert sum(isinstance(event, WorkerReplaced) for event in seen) == 3  # one for each device, in the first round


def test_training_that_two_workers_died_of_ends_the_run_with_a_line(tmp_path: Path, engine: LocalEngine) -> None:
    with pytest.raises(WorkerError) as caught:
        simulate(experiment(**fragile("crashes_always", "float32")), tmp_path / "bad", engine=engine)
    line = str(caught.value)
    assert "SIGSEGV for the second time while it trained" in line
    assert f"PyTorch {torch_version()}" in line
    assert "install" in line
    assert "\n" not in line
    # The engine is none the worse for it.
    assert simulate(experiment(), tmp_path / "good", engine=engine).final


# The order of things, without processes


class Mortal:
    """An engine with one worker; answers are given, or the worker dies where ``deaths`` names a place."""

    workers = 1

    def __init__(self, deaths: dict[int, SimulationWorkerDied]) -> None:
        self.given: list[SimulationJob] = []
        self._deaths = deaths
        self._answers: deque[Reply] = deque()

    def submit(self, worker: int, job: SimulationJob) -> None:
        died = self._deaths.get(len(self.given))
        self.given.append(job)
        self._answers.append(died or answer(job))

    def next_reply(self, seconds: float) -> tuple[int, Reply]:
        return 0, self._answers.popleft()

    def sums(self, worker: int) -> dict[str, object]:
        return {"sum/w": len(self.given)}


KILLED = death(-signal.SIGKILL)
CRASHED = death(-signal.SIGSEGV)


def answer(job: SimulationJob) -> Reply:
    if isinstance(job, TrainDevice):
        return DeviceTrained(job.device, 1, 1, 0.5, 0.1, 10, job.compute)
    return ComputeChosen(job.depth, "bfloat16") if isinstance(job, ChooseCompute) else SumsCollected()


def training(device: str, compute: ComputeMode = "bfloat16") -> TrainDevice:
    memory_saving = MemorySaving("cached", 8)
    return TrainDevice(0, device, 1, 0, 2, 1, {}, "none", compute=compute, memory_saving=memory_saving)


def trained(engine: Mortal, *jobs: SimulationJob) -> tuple[list[Reply], list[str]]:
    """Answers of the orders and of the collection after them, and what was told."""
    told: list[str] = []
    recovering = RecoveringEngine(engine, told.append)  # type: ignore[arg-type]
    replies = list(run_jobs(recovering, [QueuedJob(job, 1.0) for job in jobs], lambda: False))
    assert len(list(collect_sums(recovering, 2))) == 1
    return replies, told


def test_what_a_dead_worker_had_counted_is_computed_again_before_what_it_died_of() -> None:
    a, b = training("a"), training("b")
    engine = Mortal({1: KILLED})
    replies, told = trained(engine, a, b)
    assert engine.given == [a, b, a, b, CollectSums(2)]
    assert [reply.device for reply in replies if isinstance(reply, DeviceTrained)] == ["a", "b"]
    assert told == ["a worker process was killed by SIGKILL while it trained b (depth 1, bfloat16);"
                    " what it took with it is done again in a new one"]  # fmt: skip


def test_sums_that_die_while_they_are_handed_over_are_formed_anew() -> None:
    a, b = training("a"), training("b")
    engine = Mortal({2: KILLED})
    trained(engine, a, b)
    assert engine.given == [a, b, CollectSums(2), a, b, CollectSums(2)]


def test_crash_is_followed_by_float32_and_exact_allocation_for_that_device_alone() -> None:
    a, b = training("a"), training("b")
    engine = Mortal({0: CRASHED})
    trained(engine, a, b, a)
    assert engine.given[:2] == [a, TrainDevice(0, "a", 1, 0, 2, 1, {}, "none", memory_saving=MemorySaving("exact", 8))]
    assert engine.given[2:4] == [b, engine.given[1]]


def test_mode_that_crashes_in_its_trial_is_none() -> None:
    engine = Mortal({0: CRASHED})
    replies, _ = trained(engine, ChooseCompute(0, 1))
    assert replies == [ComputeChosen(1, "float32")]
    assert engine.given == [ChooseCompute(0, 1), CollectSums(2)]


def test_second_death_of_one_order_ends_the_run_whatever_succeeded_between() -> None:
    a, b = training("a"), training("b")
    engine = Mortal({1: KILLED, 3: KILLED})
    with pytest.raises(WorkerError, match=r"killed by SIGKILL for the second time while it trained b .* fewer workers"):
        trained(engine, a, b)
    assert engine.given == [a, b, a, b, a]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, "somebody stopped it; the same command goes on"),
        (signal.SIGKILL, "most likely for memory"),
        (signal.SIGSEGV, "native code of PyTorch"),
    ],
)
def test_death_names_what_the_signal_says(number: int, words: str) -> None:
    died = death(-number)
    assert signal.Signals(number).name in died.exit
    assert died.remedy.startswith(words)
    assert died.crashed == (number == signal.SIGSEGV)
