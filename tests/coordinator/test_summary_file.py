from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import msgspec
import numpy as np

from coordinator.final.final_choice import choose_final
from coordinator.final.final_export import FinalExport
from coordinator.rounds.run_history import RunHistory
from coordinator.run_context import RunContext
from coordinator.summary_file import SummaryFile
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.reporting.summary import DeviceOutcome, DeviceRound, FinalModel, RoundSummary, Traffic, load
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.topics import Topics
from tests.coordinator.fleets import NAMES, run_context

ROUND = RoundSummary(
    round=1,
    seconds=2.0,
    accuracy={2: 0.75},
    devices=(DeviceRound(id="a", profile="pi", depth=2, lpr=1.0, status="contributed"),),
    coverage={},
)


class Run:
    """What a summary is made of: a context, a history and a model whose weights all have one value."""

    def __init__(self, directory: Path, value: float = 1.0) -> None:
        where = RunDirectory.open(directory)
        self.context: RunContext = run_context(where, Journal.open(where.journal))
        config, blueprint = self.context.config, self.context.blueprint
        weights = {name: np.full(2, value, np.float32) for name in NAMES.values()}
        self.model = GlobalModel(blueprint, config.scheme, config.server, weights, update=config.update, seed=1)
        self.history = RunHistory(blueprint, {"a": "pi", "b": "pi"})
        self.summary = SummaryFile(self.context, self.history, lambda _: Fitness())

    def export(self) -> FinalExport:
        """Of no depth: nothing can be checked without test data."""
        publisher = WindowedPublisher(MemoryHub().transport("coordinator"), 100)
        flow = FlowLimits(None, 8, 8)
        server = ModelServer(Topics("fleet"), publisher, 1000, lambda *_: None, flow, lambda: 0.0)
        choice = choose_final(self.context, self.history, self.model)
        worker = None  # nothing is exported
        return FinalExport(self.context, self.context.config.model, (2,), choice, worker, server, InputFacts())  # type: ignore[arg-type]


def commit(journal: Journal, round: int) -> None:
    journal.open_round(round, 60, ())
    journal.commit_round(round, msgspec.json.encode(msgspec.structs.replace(ROUND, round=round)))


def test_writes_who_is_there_before_the_first_round(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.summary.write()
    written = load(run.context.directory.summary)
    assert (written.run, written.fleet, written.rounds, written.final) == ("run", "fleet", (), None)
    assert written.devices == (DeviceOutcome(id="a", profile="pi"), DeviceOutcome(id="b", profile="pi"))
    assert run.summary.earlier(run.model.digest) is None


def test_waits_with_more_rounds_where_writing_takes_more_than_its_share_of_the_time(tmp_path: Path) -> None:
    run = Run(tmp_path)
    journal, path = run.context.journal, run.context.directory.summary
    seconds = itertools.count().__next__  # every look at the clock takes a second, and so does writing
    summary = SummaryFile(dataclasses.replace(run.context, clock=seconds), run.history, lambda _: Fitness())

    commit(journal, 1)
    summary.update()
    commit(journal, 2)
    summary.update()
    assert len(load(path).rounds) == 1

    for _ in range(97):
        summary.tick()
    assert len(load(path).rounds) == 1
    summary.tick()
    assert len(load(path).rounds) == 2


def test_writes_what_waits_when_the_run_stops_and_only_then(tmp_path: Path) -> None:
    run = Run(tmp_path)
    journal, path = run.context.journal, run.context.directory.summary
    seconds = itertools.count().__next__
    summary = SummaryFile(dataclasses.replace(run.context, clock=seconds), run.history, lambda _: Fitness())
    summary.catch_up()
    assert not path.exists()

    summary.update()
    commit(journal, 1)
    summary.update()
    assert load(path).rounds == ()
    summary.catch_up()
    assert load(path).rounds == (ROUND,)


def test_writes_the_final_model_and_finds_it_after_a_restart(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.summary.earlier(run.model.digest) is None
    run.history.add(ROUND)
    run.summary.write(run.export(), {"control": Traffic(10, 1)})
    earlier = Run(tmp_path).summary.earlier(run.model.digest)
    assert earlier is not None
    assert earlier.final == FinalModel(accuracy={2: 0.75}, model_digest=run.model.digest, round=1)
    assert earlier.devices[0] == DeviceOutcome(id="a", profile="pi", contributed=1)
    assert (earlier.traffic, earlier.handed_over) == ({"control": Traffic(10, 1)}, False)


def test_does_not_take_the_summary_of_another_model_for_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.history.add(ROUND)
    run.summary.write(run.export())
    other = Run(tmp_path, value=2.0)
    assert other.summary.earlier(other.model.digest) is None
