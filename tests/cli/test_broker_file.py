from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.cli.broker_file import BrokerFile, checked_name, read_broker_file
from fedlp_edge.errors import ConfigError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLP_BROKER_URL", raising=False)


def test_file_of_a_fleet_or_an_agent_names_the_broker(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('fleet = "shop"\nid = "pi"\ndata = "digits"\n[broker]\nurl = "mqtt://broker.local:1884"\n')

    known = read_broker_file(file, None, "fedlp fleet")

    assert (known.fleet, known.id) == ("shop", "pi")
    assert (known.address(None).host, known.address(None).port) == ("broker.local", 1884)
    assert known.address("mqtts://other.local").host == "other.local"


def test_url_alone_is_enough() -> None:
    assert read_broker_file(None, "mqtt://broker.local", "fedlp fleet") == BrokerFile()


def test_without_url_and_file_the_command_is_named() -> None:
    with pytest.raises(ConfigError, match=r"name a broker: fedlp fleet mqtt://HOST\[:PORT\], or the fleet's file with"):
        read_broker_file(None, None, "fedlp fleet")


def test_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLP_BROKER_URL", "mqtt://broker.local:1884")
    assert read_broker_file(None, None, "fedlp fleet").address(None).port == 1884


def test_password_on_the_command_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="password"):
        read_broker_file(None, "mqtt://me:secret@broker.local", "fedlp fleet")


def test_names_are_those_of_topics() -> None:
    assert checked_name("fleet", "plant.7") == "plant.7"
    with pytest.raises(ConfigError, match="--fleet a/b: use letters, digits, dots, dashes and underscores"):
        checked_name("fleet", "a/b")
