"""ONNX files at the end of a run, and who gets which."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import DataSettings, ExportSettings
from coordinator.final.final_export import SILENT
from coordinator.limits import LIMITS
from fedlp_edge.reporting import events
from fedlp_edge.wire.messages import RunEnded
from fedlp_edge.worker.jobs import Export, Failed, FamilyExported
from fedlp_edge.worker.process import WorkerDied, WorkerReply
from tests.coordinator.final.ended import ended_run, export_all, exported, offered, report, stage_of


def test_every_device_gets_the_file_of_its_depth(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    jobs = [job for job in run.jobs.given if isinstance(job, Export)]
    assert [job.depths for job in jobs] == [(1, 2)]
    assert jobs[0].state_paths == (str(run.context.checkpoints.weights_path(1)),)
    assert (jobs[0].metadata["run"], jobs[0].metadata["round"]) == ("run", "1")
    assert offered(run) == {"a": ["onnx-2"], "b": ["onnx-1"]}


@pytest.mark.parametrize("data", ["", "digits"])
def test_ranges_are_asked_for_where_the_coordinator_has_no_data(tmp_path: Path, data: str) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    assert stage.export is not None
    stage.export._config = msgspec.structs.replace(run.context.config, data=DataSettings(evaluate=data))
    export_all(run, stage)
    assert {m.device: m.ranges for m in run.heard() if isinstance(m, RunEnded)} == {"a": not data, "b": not data}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (WorkerReply(1, Failed(kind="export", reason="no such operator")), "no such operator"),
        (WorkerDied("was killed by SIGKILL", 1), "the worker process was killed by SIGKILL"),
        (WorkerReply(1, FamilyExported(files=())), "the worker answered with FamilyExported"),
    ],
)
def test_depth_without_a_file_costs_no_other_and_has_the_nearest(tmp_path: Path, answer: object, reason: str) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    stage.answered(answer)  # type: ignore[arg-type]  # for all depths
    stage.answered(answer)  # type: ignore[arg-type]  # for the first alone
    export_all(run, stage)
    assert [job.depths for job in run.jobs.given if isinstance(job, Export)] == [(1, 2), (1,), (2,)]
    assert stage.export is not None
    assert [(entry.depth, entry.reason) for entry in stage.export.refused] == [(1, reason)]
    assert [model.depth for model in stage.export.models] == [2]
    told = {message.device: message for message in run.heard() if isinstance(message, RunEnded)}
    assert [version.unit for version in told["b"].models] == ["onnx-2"]
    assert told["b"].refused == reason
    assert [(e.depth, e.reason) for e in run.events if isinstance(e, events.ModelRefused)] == [(1, reason)]


def test_nothing_is_handed_out_in_place_of_what_the_owner_left_out(tmp_path: Path) -> None:
    run = ended_run(tmp_path, export=ExportSettings(depths=(2,)))
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    assert offered(run) == {"a": ["onnx-2"], "b": []}
    assert stage.export is not None
    stage.export.reported(report("a", "installed"), 1.0)
    assert stage.export.done


def test_device_is_waited_for_until_it_says_how_it_went(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    export = stage.export
    assert export is not None
    export.reported(report("a", "installed"), 1.0)
    assert not export.done
    export.reported(report("b", "failed", "the disk is full"), 2.0)
    export.reported(report("stranger", "installed"), 3.0)
    assert export.done
    assert export.delivered == {"a": "installed", "b": "the disk is full"}
    delivered = [(e.device, e.received, e.reason) for e in run.events if isinstance(e, events.ModelDelivered)]
    assert delivered == [("a", True, ""), ("b", False, "the disk is full")]


def test_device_from_which_nothing_comes_is_let_go(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    assert stage.export is not None
    stage.export.tick(LIMITS.fetch_seconds - 1)
    assert stage.export.delivered == {}
    stage.export.tick(LIMITS.most_fetch_seconds + 1)
    assert stage.export.delivered == {"a": SILENT, "b": SILENT}
    assert stage.export.done


def test_files_of_an_earlier_life_are_not_made_again(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    assert stage.export is not None
    stage.export.reported(report("a", "installed"), 1.0)
    stage.end()
    made = len(run.jobs.given)
    again = stage_of(run)
    again.begin(again=True)
    assert len(run.jobs.given) == made
    assert again.export is not None
    assert [model.depth for model in again.export.models] == [1, 2]
    assert again.export.delivered["a"] == "installed"


def test_answer_to_no_question_is_left_alone(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    assert stage.export is not None
    assert not stage.export.answered(WorkerDied("ended", None))
    assert stage.export.exports
    stage.answered(exported(run, 1, 2))
    assert not stage.export.answered(exported(run, 2))
