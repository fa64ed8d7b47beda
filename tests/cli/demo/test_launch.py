"""The whole product from the outside: ``fedlp demo`` and what its run directory is good for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.cli.demo.demo_plan import GivenOptions
from fedlp_edge.cli.demo.launch import _verdict, run_demo
from fedlp_edge.errors import OperatorError
from fedlp_edge.reporting.log import EventReader
from fedlp_edge.reporting.summary import DeviceOutcome, Summary
from tests.cli.conftest import DEMO, Run
from tests.torch_server.sitecustomize import LIMITED_TOO

Demo = tuple[Path, str]


def read_summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_bytes())


def test_runs_a_whole_fleet_and_exports_it(finished_demo: Demo) -> None:
    directory, output = finished_demo

    summary = read_summary(directory)
    assert [entry["round"] for entry in summary["rounds"]] == [1, 2]
    devices = sorted(summary["rounds"][0]["devices"], key=lambda device: device["id"])
    assert [device["depth"] for device in devices] == [5, 3, 2, 1, 5]
    # However few samples a device has, and whatever processor this is.
    for entry in summary["rounds"]:
        statuses = {device["id"]: device["status"] for device in entry["devices"]}
        assert statuses == dict.fromkeys((f"demo-{number:02}" for number in range(1, 6)), "contributed")
    assert all(device["lpr"] == 0.7 for entry in summary["rounds"] for device in entry["devices"])
    assert all(model["max_abs_diff"] < 1e-4 for model in summary["onnx"])
    for model in summary["onnx"]:
        assert (directory / "onnx" / model["file"]).is_file()
    for name in ("accuracy.png", "bytes.png", "events.jsonl", "config.toml", "checkpoints/round-00002.safetensors"):
        assert (directory / name).is_file()
    assert "ONNX files run in onnxruntime" in output
    assert "Try it: fedlp infer " in output


def test_leaves_a_model_on_every_device(finished_demo: Demo) -> None:
    directory, _ = finished_demo

    depths = {device["id"]: device["depth"] for device in read_summary(directory)["rounds"][-1]["devices"]}
    for device, depth in depths.items():
        assert (directory / "devices" / device / "models" / "current.onnx").resolve().name.endswith(f"-{depth}.onnx")


def test_infers_with_an_exported_model(finished_demo: Demo, fedlp: Run) -> None:
    directory, _ = finished_demo
    model = directory / "onnx" / "small-cnn-depth-5.onnx"

    table = fedlp("infer", model, directory / "samples" / "0.png", directory / "samples" / "1.png")
    as_json = fedlp("infer", model, directory / "samples" / "0.png", "--json")

    assert table.returncode == 0
    assert len(table.stdout.splitlines()) == 3
    answer = json.loads(as_json.stdout)
    assert answer["label"] in {str(digit) for digit in range(10)}
    assert len(answer["top"]) == 3


def test_infers_the_other_files_when_one_is_no_picture(finished_demo: Demo, fedlp: Run, tmp_path: Path) -> None:
    directory, _ = finished_demo
    (tmp_path / "notes.png").write_text("no picture")
    model = next((directory / "onnx").glob("*.onnx"))
    picture = next((directory / "samples").glob("*.png"))
    done = fedlp("infer", model, tmp_path / "notes.png", picture, "--json")
    assert done.returncode == 3
    assert done.stderr.strip() == f"error: cannot read {tmp_path}/notes.png: it is not a picture"
    assert json.loads(done.stdout)["file"] == str(picture)


def test_exports_an_exit_that_nobody_trained_from_the_last_checkpoint_and_warns(
    finished_demo: Demo, fedlp: Run, tmp_path: Path
) -> None:
    directory, _ = finished_demo

    done = fedlp("export", directory, "--depth", 4, "-o", tmp_path / "models")

    assert done.returncode == 0, done.stderr
    assert "no device trained exit 4" in done.stderr
    exported = tmp_path / "models" / "small-cnn-depth-4.onnx"
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        exported.name,
        "card.json",
        "card.md",
        "card.png",
        "small-cnn-depth-4.selftest.npz",
    }
    assert f"{exported}: depth 4, round 2, accuracy " in done.stdout


def test_refuses_to_export_a_depth_that_is_not_there(finished_demo: Demo, fedlp: Run, tmp_path: Path) -> None:
    directory, _ = finished_demo

    done = fedlp("export", directory, "--depth", 9, "-o", tmp_path)

    assert (done.returncode, done.stderr) == (2, "error: --depth 9: use all, or one of 1, 2, 3, 4, 5\n")


def test_refuses_to_export_what_is_no_run(fedlp: Run, tmp_path: Path) -> None:
    done = fedlp("export", tmp_path, "-o", tmp_path / "models")

    assert done.returncode == 2
    assert "holds no checkpoint" in done.stderr


def test_reports_a_finished_run(finished_demo: Demo, fedlp: Run) -> None:
    directory, _ = finished_demo

    done = fedlp("status", directory)

    assert done.returncode == 0
    assert "2 rounds in" in done.stdout
    assert "finished" in done.stdout


def test_refuses_a_finished_directory(finished_demo: Demo, fedlp: Run) -> None:
    directory, _ = finished_demo

    done = fedlp("demo", "--out", directory)

    assert done.returncode == 2
    assert "is finished (fedlp status" in done.stderr


def test_names_all_packages_that_are_missing_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("amqtt", "sklearn", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(OperatorError, match=r"needs amqtt, sklearn, onnxruntime: pip install .fedlp-edge\[all\].$"):
        run_demo(GivenOptions(), tmp_path / "run")
    with pytest.raises(OperatorError, match=r"the demo needs onnxruntime: pip"):
        run_demo(GivenOptions(data="mnist", broker="mosquitto"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_directory_with_something_else(fedlp: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    done = fedlp("demo", "--out", tmp_path)

    assert done.returncode == 2
    assert "is not empty and holds no demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--partition", "dirichlet:x"), "dirichlet"),
        (("--broker", "http://host"), "must begin with mqtt:// or mqtts://"),
        (("--broker", "mqtt://user:secret@host"), "FEDLP_BROKER_PASSWORD"),
    ],
)
def test_refuses_a_wrong_option_before_anything_starts(
    fedlp: Run, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    done = fedlp("demo", "--out", tmp_path / "run", *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_ends_with_the_words_of_a_part_that_failed(fedlp: Run, tmp_path: Path) -> None:
    # Nothing listens there: the coordinator says so, for which the device waits.
    done = fedlp("demo", "--out", tmp_path / "run", "--devices", 1, "--broker", "mqtt://127.0.0.1:1")

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: nothing listens at mqtt://127.0.0.1:1;")


def test_goes_on_after_ctrl_c(fedlp: Run, finished_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "run"
    monkeypatch.setenv(LIMITED_TOO, "1")
    demo = subprocess.Popen(
        [sys.executable, "-m", "fedlp_edge", "demo", "--out", str(directory), "--rounds", "3", *DEMO],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("round 1/3"):
            break
    os.kill(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=180)
    assert demo.returncode == 130
    assert rest.splitlines()[-1] == f"Stopped; nothing is lost. Go on with: fedlp demo --out {directory}"
    assert any(type(event).__name__ == "RunStopped" for event in EventReader(directory / "events.jsonl").poll())
    unfinished = fedlp("status", directory)
    assert "stopped in round" in unfinished.stdout

    other = fedlp("demo", "--out", directory, "--rounds", 4)
    assert "was begun with another --rounds (3)" in other.stderr
    done = fedlp("demo", "--out", directory)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(directory)
    assert [entry["round"] for entry in summary["rounds"]] == [1, 2, 3]
    # The interruption changed nothing: the first two rounds are those of the demo that was left alone.
    undisturbed = read_summary(finished_demo[0])
    assert [entry["accuracy"] for entry in summary["rounds"][:2]] == [
        entry["accuracy"] for entry in undisturbed["rounds"]
    ]


def test_says_and_tells_by_its_exit_code_who_did_not_contribute(capsys: pytest.CaptureFixture[str]) -> None:
    good = DeviceOutcome(id="dev-0", profile="host", contributed=2)
    bad = DeviceOutcome(id="dev-1", profile="host", contributed=1, failed=1, reason="why")
    summary = Summary(run="r", fleet="f", model="m", rounds=(), devices=(good, bad))
    assert _verdict(summary) == 3
    assert "1 of 2 devices did not contribute to every round (dev-1)" in capsys.readouterr().err
    assert _verdict(msgspec.structs.replace(summary, devices=(good,))) == 0
