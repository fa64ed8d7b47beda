"""The stage after the last round."""

from __future__ import annotations

from pathlib import Path

from coordinator.config import ExportSettings
from coordinator.limits import LIMITS
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import load
from tests.coordinator.assembled import gone
from tests.coordinator.final.ended import ended_run, export_all, offered, report, stage_of


def test_nothing_is_exported_before_the_last_round(tmp_path: Path) -> None:
    stage = stage_of(ended_run(tmp_path))
    assert (stage.export, stage.finished) == (None, False)
    stage.tick()
    stage.end()


def test_run_is_finished_once_every_device_has_its_model(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    export_all(run, stage)
    (finished,) = [event for event in run.events if isinstance(event, events.RunFinished)]
    assert (finished.rounds, finished.model_digest) == (1, run.parts.commit.model.digest)
    assert not stage.finished
    assert stage.export is not None
    for device in ("a", "b"):
        stage.export.reported(report(device, "installed"), 1.0)
    assert stage.finished
    stage.end()
    summary = load(run.context.directory.summary)
    assert summary.final is not None
    assert summary.final.model_digest == run.parts.commit.model.digest
    assert summary.delivered == {"a": "installed", "b": "installed"}
    assert [model.depth for model in summary.onnx] == [1, 2]


def test_run_without_export_ends_at_once(tmp_path: Path) -> None:
    run = ended_run(tmp_path, export=ExportSettings(depths="none"))
    stage = stage_of(run)
    stage.begin()
    assert run.jobs.given == []
    assert offered(run) == {"a": [], "b": []}
    assert stage.finished


def test_devices_that_are_not_back_are_waited_for_a_while_unless_models_are_handed_out(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    for device in ("a", "b"):
        run.parts.membership.left(gone(device))
    stage, handing_out = stage_of(run), stage_of(run, hand_out=True)
    for one in (stage, handing_out):
        one.begin(again=True)
        export_all(run, one)
    assert (stage.finished, handing_out.finished) == (False, False)
    run.now = LIMITS.return_seconds + 1
    stage.tick()
    handing_out.tick()
    assert (stage.finished, handing_out.finished) == (True, False)


def test_device_that_left_just_before_the_end_is_waited_for(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    run.parts.membership.left(gone("a"))  # as all devices do when the broker is started anew
    export_all(run, stage)
    assert stage.export is not None
    stage.export.reported(report("b", "installed"), 0.0)
    assert not stage.finished
    run.now = LIMITS.return_seconds - 1
    stage.reconnected()  # nobody could be heard until now
    run.now = LIMITS.return_seconds + 1
    stage.tick()
    assert not stage.finished
    stage.export.noticed("a", run.now)
    run.now += LIMITS.return_seconds
    stage.tick()
    assert not stage.finished
    stage.export.reported(report("a", "installed"), run.now)
    assert stage.finished


def test_device_that_left_just_before_the_end_and_stays_away_is_named(tmp_path: Path) -> None:
    run = ended_run(tmp_path)
    stage = stage_of(run)
    stage.begin()
    run.parts.membership.left(gone("a"))
    export_all(run, stage)
    assert stage.export is not None
    stage.export.reported(report("b", "installed"), 0.0)
    run.now = LIMITS.return_seconds
    stage.tick()
    assert stage.finished
    stage.end()
    assert load(run.context.directory.summary).shortcomings == ("a has no final model",)
