"""Whole simulated runs, on real worker processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from fedlp_edge.cli.simulate import run_simulate
from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, ServerSettings, TrainingSettings, UpdateSettings
from fedlp_edge.errors import ConfigError, DataError, DeviceError, FedLPError, ModelError, OperatorError
from fedlp_edge.learning.foreign_code import load_object
from fedlp_edge.reporting.events import AnyEvent, RoundFailed, RoundStarted, WaitingForDevices
from fedlp_edge.reporting.log import read_events
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData
from tests.simulation.conftest import experiment, started_engine


def digest(summary: Summary) -> str:
    assert summary.final is not None
    return summary.final.model_digest


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, engine: LocalEngine) -> Summary:
    return simulate(experiment(), tmp_path_factory.mktemp("undisturbed"), engine=engine)


def test_ends_with_the_same_model_whatever_the_number_of_workers(undisturbed: Summary, tmp_path: Path) -> None:
    with LocalEngine(1) as single:
        alone = simulate(experiment(), tmp_path, engine=single)
    assert digest(alone) == digest(undisturbed)
    assert [entry.accuracy for entry in alone.rounds] == [entry.accuracy for entry in undisturbed.rounds]
    assert [entry.loss for entry in alone.rounds] == [entry.loss for entry in undisturbed.rounds]


def test_reports_what_every_device_did(undisturbed: Summary) -> None:
    first = undisturbed.rounds[0]
    assert len(first.devices) == 5
    assert {device.depth for device in first.devices} <= {1, 2, 3}
    for device in first.devices:
        assert device.status == "contributed"
        assert device.params_up <= device.params_down
        assert all(device.id in first.coverage[unit] for unit in device.layers_sent)
    assert set(first.accuracy) == set(first.loss) == set(first.ensemble) == set(first.tiers) == {1, 2, 3}
    assert 0.1 < undisturbed.rounds[-1].accuracy[1] < 1


def test_device_whose_compute_mode_fails_computes_in_float32(tmp_path: Path, engine: LocalEngine) -> None:
    """Its last batch, which is smaller, fails in the mode that the settings name."""
    digests = []
    for mode in ("float32", "bfloat16-channels-last"):
        fragile = experiment(
            model=ModelSettings(name="tests.field.fragile:fails", input=(1, 8, 8), classes=10),
            training=TrainingSettings(batch_size=16, compute=mode),
            data=SimulatedData(train="digits", evaluate="digits", partition="iid", limit=60),
            fleet=FleetSettings(devices=3, depth_mix=(0.0, 1.0)),
            rounds=RoundSettings(count=2, devices_per_round=3),
        )
        summary = simulate(fragile, tmp_path / mode, engine=engine)
        assert {(d.status, d.compute) for r in summary.rounds for d in r.devices} == {("contributed", "float32")}
        digests.append(digest(summary))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal")},
        {"update": UpdateSettings(encoding="int2+zstd", broadcast="int4+zstd", error_feedback=True)},
        {"scheme": SchemeSettings(lpr=0.5, granularity="tensor", weights="uniform", prune="train")},
        {"server": ServerSettings(optimizer="adam", lr=0.01, ema=0.5)},
        {"model": ModelSettings(name="mlp", input=(1, 8, 8), scaling="width", width_ratios=(0.25, 0.5, 1.0))},
        {"scheme": SchemeSettings(lpr=0.7, recycle=1, rates="importance")},
        {"scheme": SchemeSettings(exchange_every={"L2": 2, "H3": 3})},
    ],
    ids=["personal", "levels", "frozen", "adam", "width", "rates", "periods"],
)
def test_goes_on_after_a_stop_as_if_there_had_been_none(
    changes: dict[str, object], tmp_path: Path, engine: LocalEngine
) -> None:
    run = experiment(rounds=RoundSettings(count=3), **changes)
    whole = simulate(run, tmp_path / "whole", engine=engine)
    seen: list[AnyEvent] = []

    def stop_in_the_third_round() -> bool:
        return any(isinstance(event, RoundStarted) and event.round == 3 for event in seen)

    with pytest.raises(SimulationStoppedError):
        simulate(run, tmp_path / "cut", engine=engine, on_event=seen.append, stopped=stop_in_the_third_round)
    again = simulate(run, tmp_path / "cut", engine=engine)
    assert digest(again) == digest(whole)
    assert [entry.round for entry in again.rounds] == [1, 2, 3]
    assert [entry.coverage for entry in again.rounds] == [entry.coverage for entry in whole.rounds]
    down = [[[d.payload_down for d in entry.devices] for entry in summary.rounds] for summary in (again, whole)]
    assert down[0] == down[1]


def test_judges_the_heads_that_stay_on_devices_when_the_run_is_over(tmp_path: Path, engine: LocalEngine) -> None:
    model = ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal")
    run = experiment(model=model, rounds=RoundSettings(count=4))
    with LocalEngine(1) as one:
        alone = simulate(run, tmp_path / "one", engine=one)
    summary = simulate(run, tmp_path / "two", engine=engine)
    assert [set(entry.tiers) for entry in summary.rounds] == [{3}, {3}, {3}, {1, 2, 3}]
    assert set(summary.rounds[-1].accuracy) == {3}
    assert summary.rounds[-1].tiers == alone.rounds[-1].tiers
    assert 0.2 < summary.rounds[-1].tiers[1] < 1.0  # a guess among ten digits is right once in ten


def test_judges_no_head_without_a_test_set(tmp_path: Path, engine: LocalEngine) -> None:
    run = experiment(model=ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal"))
    run = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, evaluate=""))
    summary = simulate(run, tmp_path, engine=engine)
    assert [(entry.accuracy, entry.tiers) for entry in summary.rounds] == [({}, {})] * 2


def test_reset_heads_are_nobodys_own(tmp_path: Path, engine: LocalEngine) -> None:
    model = ModelSettings(name="mlp", input=(1, 8, 8), head_mode="personal")
    summary = simulate(experiment(model=model, scheme=SchemeSettings(personal_heads="reset")), tmp_path, engine=engine)
    assert set(summary.rounds[-1].tiers) == {3}


def test_goes_on_with_rounds_that_overlap_after_a_stop(tmp_path: Path, engine: LocalEngine) -> None:
    quick, slow = tmp_path / "quick.toml", tmp_path / "slow.toml"
    quick.write_text('name = "quick"\nram_mb = 4000\ntraining_gmacs_per_second = 0.01\n')
    slow.write_text('name = "slow"\nram_mb = 4000\ntraining_gmacs_per_second = 0.004\n')
    run = experiment(
        fleet=FleetSettings(devices=6, profiles={str(quick): 0.5, str(slow): 0.5}),
        rounds=RoundSettings(count=6, mode="buffered", buffer_size=2, keep_checkpoints=1),
    )
    whole = simulate(run, tmp_path / "whole", engine=engine)
    assert [sum(d.status == "contributed" for d in entry.devices) for entry in whole.rounds] == [2] * 6
    assert max(device.staleness for entry in whole.rounds for device in entry.devices) >= 2
    seen: list[AnyEvent] = []

    def stop_in_the_fifth_round() -> bool:
        return any(isinstance(event, RoundStarted) and event.round == 5 for event in seen)

    with pytest.raises(SimulationStoppedError):
        simulate(run, tmp_path / "cut", engine=engine, on_event=seen.append, stopped=stop_in_the_fifth_round)
    assert digest(simulate(run, tmp_path / "cut", engine=engine)) == digest(whole)


def test_goes_on_after_a_kill_as_if_there_had_been_none(undisturbed: Summary, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(to_toml(experiment()))
    command = [sys.executable, "-m", "fedlp_edge", "simulate", str(file), "--out", str(tmp_path / "run"), "--workers"]
    process = subprocess.Popen([*command, "1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.startswith("round 1/2") for line in process.stdout)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = subprocess.run([*command, "2", "--json"], capture_output=True, text=True, check=True)
    assert msgspec.json.decode(finished.stdout)["model_digest"] == digest(undisturbed)
    assert digest(load(tmp_path / "run" / "summary.json")) == digest(undisturbed)


@pytest.mark.real_start
def test_stops_cleanly_on_an_interrupt_and_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(to_toml(experiment(rounds=RoundSettings(count=500))))
    command = [sys.executable, "-m", "fedlp_edge", "simulate", str(file), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.startswith("round 2/500") for line in process.stdout)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == f"Stopped; nothing is lost. Go on with: fedlp simulate {file} --out {tmp_path / 'run'}\n"
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert 2 <= len(load(tmp_path / "run" / "summary.json").rounds) < 500


def test_holds_no_more_with_ten_times_the_devices(tmp_path: Path, engine: LocalEngine) -> None:
    workers = psutil.Process().children(recursive=True)

    def run(devices: int) -> int:
        crowd = experiment(
            fleet=FleetSettings(devices=devices),
            rounds=RoundSettings(count=1),
            data=SimulatedData(train="digits", evaluate=""),
        )
        simulate(crowd, tmp_path / str(devices), engine=engine)
        return sum(worker.memory_info().rss for worker in workers)

    few = run(10)
    # A hundred updates of this model would be 23 MB.
    assert run(100) < few + 12e6


def test_returns_a_finished_run_and_refuses_another_in_its_place(tmp_path: Path, engine: LocalEngine) -> None:
    run = experiment(rounds=RoundSettings(count=1), data=SimulatedData(train="digits", evaluate="", limit=20))
    first = simulate(run, tmp_path, engine=engine)
    assert simulate(run, tmp_path, engine=engine) == first
    assert first.rounds[0].accuracy == {}
    with pytest.raises(OperatorError, match="other settings"):
        simulate(msgspec.structs.replace(run, seed=2), tmp_path, engine=engine)


def test_a_directory_in_which_nothing_was_learned_is_free_for_mended_settings(
    tmp_path: Path, engine: LocalEngine
) -> None:
    run = experiment(rounds=RoundSettings(count=1), data=SimulatedData(train="digits", evaluate="", limit=20))
    unknown = msgspec.structs.replace(run.model, name="resnet-18")
    with pytest.raises(FedLPError, match="unknown model 'resnet-18'"):
        simulate(msgspec.structs.replace(run, model=unknown), tmp_path, engine=engine)
    assert len(simulate(run, tmp_path, engine=engine).rounds) == 1


def test_lengthens_a_finished_run(undisturbed: Summary, tmp_path: Path, engine: LocalEngine) -> None:
    simulate(experiment(rounds=RoundSettings(count=1, devices_per_round=5)), tmp_path, engine=engine)
    assert digest(simulate(experiment(), tmp_path, engine=engine)) == digest(undisturbed)


def test_loses_who_drops_out_and_asks_again_below_the_quorum(tmp_path: Path, engine: LocalEngine) -> None:
    run = experiment(
        fleet=FleetSettings(devices=6, dropout=0.5, availability=0.7), rounds=RoundSettings(count=3, quorum=0.8)
    )
    seen: list[AnyEvent] = []
    summary = simulate(run, tmp_path, engine=engine, on_event=seen.append)
    status = [device.status for entry in summary.rounds for device in entry.devices]
    assert {"contributed", "lost"} == set(status)
    assert any(isinstance(event, RoundFailed) for event in seen)
    assert not any(isinstance(event, WaitingForDevices) for event in seen)
    assert min(len(entry.devices) for entry in summary.rounds) < 6


def test_loses_who_is_slower_than_the_deadline(tmp_path: Path, engine: LocalEngine) -> None:
    profile = tmp_path / "slow.toml"
    profile.write_text('name = "slow"\nram_mb = 4000\ntraining_gmacs_per_second = 0.0001\n')
    quick = tmp_path / "quick.toml"
    quick.write_text('name = "quick"\nram_mb = 4000\ntraining_gmacs_per_second = 10\n')
    run = experiment(
        fleet=FleetSettings(devices=6, profiles={str(profile): 0.5, str(quick): 0.5}),
        scheme=SchemeSettings(depth="full"),
        rounds=RoundSettings(count=1, deadline_seconds=2.0),
    )
    summary = simulate(run, tmp_path / "run", engine=engine)
    assert {device.profile: device.status for device in summary.rounds[0].devices} == {
        "slow": "lost",
        "quick": "contributed",
    }
    assert summary.rounds[0].virtual_seconds == 2.0


def test_says_so_when_training_diverges(tmp_path: Path, engine: LocalEngine) -> None:
    run = experiment(training=msgspec.structs.replace(experiment().training, lr=1e30))
    with pytest.raises(DeviceError, match="diverged"):
        simulate(run, tmp_path, engine=engine)
    assert read_events(tmp_path / "events.jsonl")[-1].detail


def test_says_so_when_data_do_not_fit(tmp_path: Path, engine: LocalEngine) -> None:
    with pytest.raises(DataError, match="1x8x8"):
        simulate(experiment(model=ModelSettings(name="mlp", input=(1, 9, 9))), tmp_path / "a", engine=engine)
    with pytest.raises(ModelError, match="unknown model"):
        simulate(experiment(model=ModelSettings(name="mpl", input=(1, 8, 8))), tmp_path / "b", engine=engine)
    # The engine is none the worse for it.
    assert simulate(experiment(), tmp_path / "c", engine=engine).final


def test_says_where_what_is_frozen_does_not_exist(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text('[model]\nname = "mlp"\ninput = [1, 8, 8]\nfreeze = ["hiden1"]\n[data]\ntrain = "digits"\n'
                    'evaluate = "digits"\n[simulation]\nworkers = 1\n')  # fmt: skip
    with pytest.raises(ConfigError, match=r"experiment.toml:4: \[model\] freeze: .* matches 'hiden1'; near: hidden1"):
        run_simulate(file, tmp_path / "run", None, None, quiet=True, as_json=False)


def test_leaves_no_process_behind(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with started_engine() as started:
        simulate(experiment(rounds=RoundSettings(count=1)), tmp_path, engine=started)
        ours = set(psutil.Process().children(recursive=True)) - before
        assert len(ours) == 3  # the starter and its workers
    assert psutil.wait_procs(ours, timeout=60)[1] == []


def test_a_regression_of_another_number_of_targets_is_refused(tmp_path: Path, engine: LocalEngine) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 4), np.float32), y=np.linspace(0, 1, 60, dtype=np.float32)[:, None])
    run = experiment(
        model=ModelSettings(name="mlp", input=(4,), classes=3, task="regression"),
        data=SimulatedData(train=f"npz:{tmp_path / 'd.npz'}", evaluate="", partition="iid"),
    )
    with pytest.raises(
        DataError, match=r"the samples have 1 targets but the model has 3 outputs: set \[model\] classes"
    ):
        simulate(run, tmp_path / "run", engine=engine)


def test_a_module_that_starts_a_simulation_when_it_is_imported_is_told_where_to_put_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "starts_when_imported.py").write_text("from fedlp_edge import simulate\nsimulate(None, 'run')\n")
    with pytest.raises(ConfigError, match="starts_when_imported starts a simulation as soon as it is imported"):
        load_object("starts_when_imported:Net")
