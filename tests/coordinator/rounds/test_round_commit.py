"""A closed round becomes a model, on disk before it is committed, and committed before its updates are removed."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np

from coordinator.background import Background, TaskFinished
from coordinator.config import DataSettings
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.rounds.round_commit import RoundCommit
from coordinator.rounds.round_updates import RoundUpdates
from coordinator.rounds.run_history import RunHistory
from coordinator.run_context import RunContext
from coordinator.summary_file import SummaryFile
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.metrics.model_scores import ModelScores
from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.reporting.summary import load
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import AnyJob, Evaluate, Evaluated
from tests.coordinator.fleets import NAMES, run_context
from tests.coordinator.rounds.test_round_updates import deliver
from tests.fleets.world import InTurn

PLACES = (CohortMember("a", 2, 1.0, 10, 10), CohortMember("b", 1, 1.0, 30, 30))


class Jobs:
    """A worker process that only takes orders."""

    def __init__(self) -> None:
        self.given: list[AnyJob] = []

    def submit(self, job: AnyJob) -> int:
        self.given.append(job)
        return len(self.given)


class Run:
    """The round that is being committed, and what a restart would find."""

    def __init__(self, directory: Path, *, change: float = 5.0, **settings: object) -> None:
        self.directory = RunDirectory.open(directory)
        journal = Journal.open(self.directory.journal)
        self.context: RunContext = run_context(self.directory, journal, **settings)
        blueprint, config = self.context.blueprint, self.context.config
        weights = {name: np.ones(2, np.float32) for name in NAMES.values()}
        self.context.checkpoints.save(0, weights, ServerState())
        self.model = GlobalModel(blueprint, config.scheme, config.server, weights, update=config.update, seed=1)
        transport = MemoryHub().transport("coordinator")
        transport.start(lambda _: None)
        server = ModelServer(
            Topics("fleet"),
            WindowedPublisher(transport, 100),
            1000,
            lambda *_: None,
            FlowLimits(None, 8, 8),
            lambda: 0.0,
        )
        server.put_weights(blueprint, weights)
        self.ends: queue.SimpleQueue[TaskFinished] = queue.SimpleQueue()
        self.history = RunHistory(blueprint, {"a": "pi"})
        self.jobs, self.committed = Jobs(), list[int]()
        self.commit = RoundCommit(
            self.context,
            self.model,
            self.history,
            SummaryFile(self.context, self.history, lambda _: Fitness()),
            server,
            self.jobs,  # type: ignore[arg-type]
            Background(InTurn(), self.ends.put),
            FleetClasses(config.model, blueprint, journal, None, 1, lambda: 0.0),
        )
        journal.open_round(1, 80, PLACES)
        self.updates = RoundUpdates(self.context, Cohort(1, PLACES), 80)
        self.history.note_cohort(PLACES)
        deliver(self.updates, directory, "a", {"L1": 1.0, "L2": 2.0, "H2": 3.0}, 10)
        deliver(self.updates, directory, "b", {"L1": change, "H1": 7.0}, 30)

    def close(self) -> None:
        self.commit.close(self.updates, (), 0.0, lambda: self.committed.append(1))

    def next_end(self) -> None:
        self.ends.get_nowait().then()

    @property
    def journaled(self) -> int:
        return len(list(self.context.journal.summaries()))


def test_commits_once_the_checkpoint_is_on_disk_and_then_removes_the_updates(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.close()
    assert run.context.checkpoints.weights_path(1).exists()
    assert (run.journaled, run.committed) == (0, [])
    assert run.directory.update(1, "a").exists()
    run.next_end()
    assert (run.journaled, run.committed, run.history.committed) == (1, [1], 1)
    assert not run.directory.update(1, "a").exists()
    weights, _ = run.context.checkpoints.load(1)
    assert {unit: float(weights[name][0]) for unit, name in NAMES.items()} == {"L1": 5, "L2": 3, "H1": 8, "H2": 4}
    assert [entry.round for entry in load(run.directory.summary).rounds] == [1]


def test_waits_for_the_evaluation_and_takes_no_other_answer(tmp_path: Path) -> None:
    run = Run(tmp_path, data=DataSettings(evaluate="digits"))
    run.close()
    run.next_end()
    (job,) = run.jobs.given
    assert isinstance(job, Evaluate)
    assert (job.depths, job.state_path) == ((1, 2), str(run.context.checkpoints.weights_path(1)))
    scores = ModelScores({1: {"accuracy": 0.5}, 2: {"accuracy": 0.6}}, {1: 0.7, 2: 0.6})
    result = Evaluated(scores=scores, exit_loss={1: 0.7, 2: 0.6}, samples=10)
    run.commit.evaluated(7, result)
    assert run.committed == []
    run.commit.evaluated(1, result)
    run.commit.evaluated(1, result)
    assert run.committed == [1]
    assert run.history.last is not None
    assert run.history.last.accuracy == {1: 0.5, 2: 0.6}


def judged(accuracy: float, loss: float | None) -> Evaluated:
    scores = ModelScores({2: {"accuracy": accuracy}}, {2: loss})
    return Evaluated(scores=scores, exit_loss={2: loss}, samples=10)


def test_makes_the_model_again_without_an_update_that_ruins_it(tmp_path: Path) -> None:
    run = Run(tmp_path, change=90.0, data=DataSettings(evaluate="digits"))
    run.close()
    run.next_end()
    run.commit.evaluated(1, judged(0.1, None))
    run.next_end()
    assert (run.committed, len(run.jobs.given)) == ([], 2)
    run.commit.evaluated(2, judged(0.6, 0.6))
    assert run.committed == [1]
    assert run.history.last is not None
    assert sorted(device.status for device in run.history.last.devices) == ["contributed", "rejected"]
