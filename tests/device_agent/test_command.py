"""From a command line of ``fedlp-agent`` to its configuration, and what is refused before it connects."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedlp_edge
from device_agent import command
from device_agent.config import AgentConfig
from fedlp_edge.errors import ConfigError, DataError, FedLPError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[AgentConfig]:
    """Configurations with which an agent would have run."""
    configurations: list[AgentConfig] = []

    def serve(config: AgentConfig) -> int:
        configurations.append(config)
        return 7

    monkeypatch.setattr(command, "serve", serve)
    return configurations


def call(*words: str) -> object:
    return CliRunner().invoke(command.app, list(words))


USUAL = ("--broker", "mqtt://broker.example", "--fleet", "plant", "--data", "digits")


def test_options_become_the_configuration_and_the_exit_code_is_the_agents(
    served: list[AgentConfig], tmp_path: Path
) -> None:
    told = call(*USUAL, "--id", "cam-1", "--state", str(tmp_path), "--threads", "2", "--allow-model", "a:b", "--once")
    assert told.exit_code == 7  # type: ignore[attr-defined]
    (config,) = served
    assert (config.fleet, config.data, config.device_id, config.threads) == ("plant", "digits", "cam-1", 2)
    assert (config.allow_models, config.once, config.state_dir) == (("a:b",), True, tmp_path)


def test_options_win_over_the_file(served: list[AgentConfig], tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('fleet = "plant"\ndata = "digits"\nthreads = 3\n[broker]\nurl = "mqtt://broker.example"\n')
    call("--config", str(file), "--fleet", "shop")
    (config,) = served
    assert (config.fleet, config.threads) == ("shop", 3)


def test_what_is_missing_is_said(served: list[AgentConfig]) -> None:
    told = call("--broker", "mqtt://broker.example")
    assert isinstance(told.exception, ConfigError)  # type: ignore[attr-defined]
    assert served == []


def test_version_is_that_of_the_package() -> None:
    assert call("--version").stdout == f"fedlp-edge {fedlp_edge.__version__}\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "error"), [("digit", DataError), ("imagefolder:/no/such/place", DataError)], ids=["typo", "missing"]
)
def test_data_are_looked_at_before_anything_else(tmp_path: Path, data: str, error: type[FedLPError]) -> None:
    told = call("--broker", "mqtt://127.0.0.1:1", "--fleet", "f", "--data", data, "--state", str(tmp_path / "state"))
    assert isinstance(told.exception, error)  # type: ignore[attr-defined]
    assert not (tmp_path / "state").exists()


def test_threads_are_said_with_who_shares_the_cores() -> None:
    assert command._threads_text(2, 4.0, 0) == "trains with 2 thread(s) of 4 core(s); --threads says otherwise"
    assert command._threads_text(1, 2.5, 3) == (
        "trains with 1 thread(s) of 2.5 core(s), shared with 3 other agent(s); --threads says otherwise"
    )


def test_root_of_trust_is_read_before_anything_begins(tmp_path: Path) -> None:
    assert command.root_of_trust("") is None
    with pytest.raises(ConfigError, match=r"root.json: No such file or directory; root names the root.json that"):
        command.root_of_trust(str(tmp_path / "root.json"))


def test_root_of_trust_without_what_verifies_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ("device_agent.installation.signed_source", "fedlp_edge.release.release_client")
    for name in [name for name in sys.modules if name in loaded or name.startswith("tuf.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tuf", None)
    with pytest.raises(ConfigError, match=r'^root needs tuf: pip install "fedlp-edge\[release\]"$'):
        command.root_of_trust(str(tmp_path / "root.json"))
