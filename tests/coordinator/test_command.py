"""From a command line of ``fedlp-coordinator`` to a run directory, and what is refused before one is made."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedlp_edge
from coordinator import command
from coordinator.config import load_config
from fedlp_edge.errors import ConfigError, OperatorError, SettingError
from fedlp_edge.reporting.summary import DeviceOutcome, Summary, save
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE, EXIT_STOPPED
from fedlp_edge.worker.jobs import RefusedModel


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text('fleet = "shop"\nrun = "first"\n[data]\nevaluate = "digits"\n')
    return path


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says how the runs of this test end."""
    monkeypatch.setattr(command, "_configure_log", lambda directory, *, verbose: None)

    def end(*, finished: bool = True, error: Exception | None = None, **summary: object) -> None:
        def run(fleet: object, directory: RunDirectory, **options: object) -> bool:
            if error is not None:
                raise error
            save(Summary(run="first", fleet="shop", model="mlp", rounds=(), **summary), directory.summary)  # type: ignore[arg-type]
            return finished

        monkeypatch.setattr(command, "_run", run)

    return end


def call(config: Path, *words: str) -> object:
    return CliRunner().invoke(command.app, ["--config", str(config), *words])


def test_stopped_run_says_how_to_go_on(config: Path, tmp_path: Path, running: Callable[..., None]) -> None:
    running(finished=False)
    told = call(config, "--out", str(tmp_path / "run"))
    assert told.exit_code == EXIT_STOPPED  # type: ignore[attr-defined]
    assert told.stdout == (  # type: ignore[attr-defined]
        f"Stopped; nothing is lost. Go on with: fedlp-coordinator --config {config} --out {tmp_path / 'run'}\n"
    )
    quiet = call(config, "--out", str(tmp_path / "quiet"), "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (EXIT_STOPPED, "")  # type: ignore[attr-defined]


def test_depth_without_a_file_is_an_exit_code_of_its_own(
    config: Path, tmp_path: Path, running: Callable[..., None]
) -> None:
    running()
    assert call(config, "--out", str(tmp_path / "a")).exit_code == 0  # type: ignore[attr-defined]
    running(refused=(RefusedModel(1, "no such operator"),))
    assert call(config, "--out", str(tmp_path / "b")).exit_code == EXIT_INCOMPLETE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"contributed": 3, "failed": 4, "state": "set aside"}, "pi is set aside"),
        ({"contributed": 3, "failed": 1, "state": "unfit"}, "pi is unfit"),
        ({"failed": 2, "state": "resting"}, "pi failed in all its rounds"),
        ({"contributed": 1, "failed": 3, "failed_last": 3, "state": "resting"}, "pi failed in its last 3 rounds"),
        ({"contributed": 4, "failed": 1, "failed_last": 1, "state": "resting"}, ""),
        ({"contributed": 3, "failed": 1}, ""),
        ({"contributed": 0}, ""),
    ],
)
def test_run_that_ends_without_a_device_does_not_look_like_a_success(
    config: Path, tmp_path: Path, running: Callable[..., None], device: dict[str, object], words: str
) -> None:
    running(devices=(DeviceOutcome(id="pi", profile="small", **device),))  # type: ignore[arg-type]
    told = call(config, "--out", str(tmp_path / "run"), "--quiet")
    assert told.exit_code == (EXIT_INCOMPLETE if words else 0)  # type: ignore[attr-defined]
    assert told.stderr.partition(" (")[0] == (f"error: not all was done: {words}" if words else "")  # type: ignore[attr-defined]


def test_devices_without_a_final_model_are_named_with_the_exit_code(
    config: Path, tmp_path: Path, running: Callable[..., None]
) -> None:
    running(delivered={"a": "installed", "b": "nothing was heard of it", "c": "received"})
    told = call(config, "--out", str(tmp_path / "run"))
    assert told.exit_code == EXIT_INCOMPLETE  # type: ignore[attr-defined]
    assert "error: not all was done: b has no final model (" in told.stderr  # type: ignore[attr-defined]


def test_wrong_setting_is_named_with_its_line(config: Path, tmp_path: Path, running: Callable[..., None]) -> None:
    running(error=SettingError(("data", "evaluate"), "no such data"))
    told = call(config, "--out", str(tmp_path / "run"))
    assert isinstance(told.exception, ConfigError)  # type: ignore[attr-defined]
    assert str(told.exception) == f"{config}:4: [data] evaluate: no such data"  # type: ignore[attr-defined]


def test_files_of_the_run_do_not_lie_among_its_data(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "nut").mkdir(parents=True)
    (pictures / "nut" / "a.png").write_bytes(b"")
    config = tmp_path / "fleet.toml"
    config.write_text(f'fleet = "shop"\n[data]\nevaluate = "imagefolder:{pictures}"\n')
    told = call(config, "--out", str(pictures / "run"))
    assert isinstance(told.exception, ConfigError)  # type: ignore[attr-defined]
    assert f"{config}:3: [data] evaluate: " in str(told.exception)  # type: ignore[attr-defined]
    assert not (pictures / "run").exists()


def test_directory_that_another_process_uses_is_refused(config: Path, tmp_path: Path) -> None:
    other = RunDirectory.open(tmp_path / "run")
    other.lock()
    try:
        told = call(config, "--out", str(tmp_path / "run"))
        assert isinstance(told.exception, OperatorError)  # type: ignore[attr-defined]
    finally:
        other.unlock()


def test_version_is_that_of_the_package(config: Path) -> None:
    assert call(config, "--version").stdout == f"fedlp-edge {fedlp_edge.__version__}\n"  # type: ignore[attr-defined]


def test_run_that_another_version_named_otherwise_goes_on(
    config: Path, tmp_path: Path, running: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config.write_text('fleet = "shop"\n')
    earlier = tmp_path / "runs" / "shop-0123456789ab"
    earlier.mkdir(parents=True)
    (earlier / "config.toml").write_text('fleet = "shop"\n[model]\nname = "mlp"\n')
    running()
    assert call(config, "--quiet").exit_code == 0  # type: ignore[attr-defined]
    assert not (earlier / "summary.json").exists()  # other settings are another run
    new = next(path for path in (tmp_path / "runs").iterdir() if path != earlier)
    shutil.rmtree(new)
    (earlier / "config.toml").write_text('fleet = "shop"\n')
    assert call(config, "--quiet").exit_code == 0  # type: ignore[attr-defined]
    assert (earlier / "summary.json").exists()
    assert not new.exists()


def learned_run(path: Path, settings: str, name: str) -> RunDirectory:
    run = RunDirectory.open(path)
    run.config.write_text(settings)
    journal = Journal.open(run.journal)
    journal.open_round(1, 1, ())
    journal.commit_round(1, b"{}")
    journal.close()
    save(Summary(run=name, fleet="shop", model="mlp", rounds=()), run.summary)
    return run


def test_run_that_goes_on_keeps_the_name_under_which_devices_know_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_run", lambda fleet, *_, **__: names.append(fleet.run_name))
    settings = 'fleet = "shop"\n[model]\nname = "mlp"\n'
    config.write_text(settings)
    tmp_path.joinpath("runs").mkdir()
    learned_run(tmp_path / "runs" / "shop-0123456789ab", settings, "shop-0123456789ab")
    call(config, "--quiet")
    gc.collect()  # the lock goes with the directory's object, as the process of a real command does
    config.write_text(f'run = "spring"\n{settings}')
    call(config, "--quiet", "--out", "runs/shop-0123456789ab")
    assert names == ["shop-0123456789ab", "spring"]


def test_run_that_begins_beside_one_of_other_settings_names_them(
    config: Path, tmp_path: Path, running: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("runs").mkdir()
    learned_run(tmp_path / "runs" / "shop-1", 'fleet = "shop"\n[scheme]\nlpr = 0.25\ndepth = "full"\n', "shop-1")
    config.write_text('fleet = "shop"\nrecipe = "fedlp-homo"\n')
    running(finished=False)
    told = call(config)
    assert told.stderr == (  # type: ignore[attr-defined]
        "runs/shop-1 holds an unfinished run with other settings, perhaps of the recipe fedlp-homo in another version: "
        "[scheme] lpr is 0.5 and was 0.25. This run begins beside it\n"
    )
    assert call(config).stderr == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("rounds", [0, 1])
def test_run_that_goes_on_waits_for_its_broker(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    class Seen(Exception):
        pass

    def transport(*_: object, **options: object) -> None:
        raise Seen(options["patient"])

    monkeypatch.setattr(command, "MqttTransport", transport)
    directory = RunDirectory.open(tmp_path / "run")
    if rounds:
        (directory.checkpoints / "round-00001.safetensors").touch()
    with pytest.raises(Seen) as seen:
        command._coordinate(load_config(config), directory, lambda event: None, threads=1, hand_out=False)
    assert seen.value.args == (rounds > 0,)
