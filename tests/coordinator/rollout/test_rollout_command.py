"""``fedlp deploy``: what it refuses in one line, and how a roll-out is steered that no process carries out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.rollout import rollout_command
from coordinator.rollout.rollout_command import app
from coordinator.rollout.rollout_directory import DeviceStanding, RolloutDirectory, RolloutPlan, RolloutStatus
from fedlp_edge.core.rollout.rollout_events import DeviceSettled, InstallOrdered, RolloutBegan, RolloutPaused
from fedlp_edge.wire.messages import ShadowFigures
from tests.fleets.rolled_out import write_release
from tests.release.two_files import write_two_files


def run(*words: str | Path) -> tuple[int, str]:
    """Exit code, and what was printed or raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    error = result.exception
    said = str(error) if error is not None and not isinstance(error, SystemExit) else ""
    return result.exit_code, result.output + said


def begun(directory: Path) -> RolloutDirectory:
    """A roll-out of two devices whose canary has the model."""
    rollout = RolloutDirectory(directory)
    directory.mkdir()
    rollout.put_plan(RolloutPlan(run="deploy-r", fleet="f", release="r", source="/d", config="/f.toml"))
    for event in (RolloutBegan((("a",), ("b",))), InstallOrdered("a"), DeviceSettled("a", "installed")):
        rollout.append(event)
    figures = ShadowFigures(inputs=20, agreement=0.95)
    standings = {
        "a": DeviceStanding(group=1, file="m-d1.onnx", state="installed", shadow=figures),
        "b": DeviceStanding(group=2, state="waiting"),
    }
    rollout.put_status(RolloutStatus(phase="running", open_groups=1, groups=2, devices=standings))
    return rollout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status",), "there is no roll-out in rollouts in "),
        (("abort",), "there is no roll-out in rollouts in "),
        (("status", "nowhere"), "nowhere holds no roll-out; name the directory that fedlp deploy has told"),
        (("RELEASE", "more"), "one directory is deployed at a time: leave more away"),
        (("rollouts/a", "pause"), "pause stands before the directory: fedlp deploy pause rollouts/a"),
        (("nowhere",), "nowhere is no directory; name that of a run, or one that fedlp export has written"),
        (("RELEASE", "--depth", "7"), "has no such file; there are: depth 1 fp32"),
        (("RELEASE", "--precision", "int8"), "has no such file; there are: depth 1 fp32"),
        (("RELEASE",), "name the fleet's file with --config, for its name and broker"),
        (("RELEASE", "--config", "nowhere.toml"), "nowhere.toml"),
        (("RELEASE", "--config", "FLEET", "--canary", "few"), "'few' is no size of a group: give a number of devices"),
        (("RELEASE", "--config", "FLEET", "--error-threshold", "200%"), 'it must be a share such as "10%"'),
        (("RELEASE", "--probation", "soon"), "'soon' is no time; it must be seconds, or a number with s, m, h or d"),
        (("RELEASE", "--patience", "0"), "0 is too short; it must be 1 s at least"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('fleet = "f"\n')
    places = {"RELEASE": str(write_release(tmp_path / "release", b"good")), "FLEET": str(fleet)}
    code, output = run(*(places.get(word, word) for word in words))
    assert code != 0
    assert said in output
    assert "Traceback" not in output
    assert not (tmp_path / "rollouts").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "model-d2.onnx keeps its weights in model-d2.onnx.data, and a device gets one file: use --precision fp16"),
        (("--depth", "2"), "or int8, or --depth N with a smaller depth"),
        (("--depth", "1"), "name the fleet's file with --config"),
        (("--precision", "int8"), "name the fleet's file with --config"),
    ],
)
def test_a_model_of_two_files_is_refused_unless_another_is_wanted(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    release = write_release(tmp_path / "release", b"good")
    write_two_files(release / "model-d2.onnx")
    (release / "model-d2-int8.onnx").write_bytes(b"small")
    code, output = run(release, *words, "--out", tmp_path / "out")
    assert code != 0
    assert said in output
    assert not (tmp_path / "out").exists()


def test_status_says_where_each_device_stands(tmp_path: Path) -> None:
    begun(tmp_path / "rollout")
    code, output = run("status", tmp_path / "rollout")
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == "release r to fleet f: running"
    assert lines[1] == "1 of 2 devices have it; group 1 of 2 has begun"
    assert lines[2].split() == ["1", "a", "installed", "m-d1.onnx,", "agrees", "on", "95%", "of", "20"]
    assert lines[3].split() == ["2", "b", "waiting"]


def test_status_of_a_single_device_is_a_sentence(tmp_path: Path) -> None:
    rollout = begun(tmp_path / "rollout")
    standings = {"a": DeviceStanding(group=1, file="m-d1.onnx", state="installed")}
    rollout.put_status(RolloutStatus(phase="done", open_groups=1, groups=1, devices=standings))
    assert run("status", rollout.path)[1].splitlines()[1] == "1 of 1 device has it; group 1 of 1 has begun"


def test_roll_out_that_has_seen_nobody_has_not_begun(tmp_path: Path) -> None:
    rollout = begun(tmp_path / "rollout")
    (tmp_path / "rollout" / "status.json").unlink()
    assert run("status", rollout.path) == (0, "release r to fleet f: not begun; no device has been seen\n")


def test_the_newest_roll_out_here_is_shown_and_the_only_one_under_way_is_steered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rollouts" / "no-roll-out").mkdir(parents=True)
    for day, name in enumerate(("second", "first", "ended")):
        begun(tmp_path / "rollouts" / name)
        for path in (tmp_path / "rollouts" / name).iterdir():
            os.utime(path, (1e9 - day, 1e9 - day))
    RolloutDirectory(tmp_path / "rollouts" / "ended").put_status(RolloutStatus(phase="done"))
    assert run("status") == run("status", "rollouts/second")
    code, output = run("abort")
    assert code != 0
    assert "several roll-outs are under way; name the one to abort: rollouts/second, rollouts/first" in output
    run("abort", "rollouts/first")
    assert run("abort") == (0, "the roll-out is aborted; no process carries it out now\n")
    assert RolloutDirectory(tmp_path / "rollouts" / "second").phase == "aborted"
    assert "there is no roll-out under way in rollouts in " in run("pause")[1]


def test_word_is_left_for_the_process_at_work(tmp_path: Path) -> None:
    rollout = begun(tmp_path / "rollout")
    assert rollout.lock()
    code, output = run("pause", tmp_path / "rollout")
    assert (code, output) == (0, "the process that rolls r out is told to pause\n")
    assert rollout.take_word() == "pause"
    rollout.unlock()


def test_word_is_written_down_where_no_process_is_at_work(tmp_path: Path) -> None:
    rollout = begun(tmp_path / "rollout")
    code, output = run("pause", tmp_path / "rollout")
    assert (code, output) == (0, "the roll-out is paused; no process carries it out now\n")
    assert rollout.events()[-1] == RolloutPaused()
    code, output = run("abort", tmp_path / "rollout")
    assert (code, output) == (0, "the roll-out is aborted; no process carries it out now\n")
    code, output = run("status", tmp_path / "rollout")
    assert code == 3
    assert output.startswith("release r to fleet f: aborted")
    assert run("resume", tmp_path / "rollout") == (2, "the roll-out is over: aborted\n")


def test_roll_out_goes_on_with_its_own_choices_alone(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", b"good")
    (tmp_path / "fleet.toml").write_text('fleet = "f"\n')
    begun(tmp_path / "rollout")
    code, output = run(release, "--config", tmp_path / "fleet.toml", "--out", tmp_path / "rollout", "--canary", "2")
    assert code != 0
    assert "holds a roll-out with other choices (release, settings)" in output


def test_roll_out_that_is_over_begins_anew_with_whatever_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = write_release(tmp_path / "release", b"good")
    (tmp_path / "fleet.toml").write_text('fleet = "f"\n')
    carried: list[RolloutPlan] = []

    def carry_out(directory: RolloutDirectory, plan: RolloutPlan, _gather: float, *, verbose: bool) -> int:
        carried.append(plan)
        directory.unlock()
        return int(verbose)

    monkeypatch.setattr(rollout_command, "_carry_out", carry_out)
    words = (release, "--config", tmp_path / "fleet.toml", "--out", tmp_path / "rollout")
    run(*words)
    rollout = RolloutDirectory(tmp_path / "rollout")
    rollout.append(RolloutBegan((("a",),)))
    rollout.put_status(RolloutStatus(phase="stopped"))
    _, output = run(*words)
    assert "stays stopped; to try it again, name another directory with --out" in output
    rollout.put_status(RolloutStatus(phase="done"))
    _, output = run(*words, "--canary", "2", "--probation", "1m", "--patience", "90")
    assert "begins anew" in output
    first, same, anew = carried
    assert first.run == same.run != anew.run
    assert anew.settings.canary == "2"
    assert (first.probation_seconds, anew.probation_seconds, anew.settings.patience_seconds) == (10.0, 60.0, 90.0)
