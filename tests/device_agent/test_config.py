"""Settings from file, command line, environment and host."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import load_config as load_fleet
from device_agent.config import AgentConfig, ServeSettings, default_id, load_config, new_session
from fedlp_edge.errors import ConfigError
from fedlp_edge.simulation.experiment import load_experiment
from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.wire.messages import Name

GIVEN = {"broker": "mqtt://hub", "fleet": "shop", "data": "digits"}


def test_reads_a_file_and_lays_the_command_line_over_it(tmp_path: Path):
    path = tmp_path / "agent.toml"
    path.write_text('fleet = "shop"\ndata = "digits"\nthreads = 3\n[broker]\nurl = "mqtt://hub"\nusername = "pi"\n')
    config = load_config(path, {"threads": 1, "broker": "mqtt://other", "id": "pi"})
    assert (config.fleet, config.threads, config.device_id) == ("shop", 1, "pi")
    assert (config.broker.url, config.broker.username) == ("mqtt://other", "pi")


def test_serves_only_where_the_file_says(tmp_path: Path):
    link, broker = tmp_path / "current.onnx", BrokerSettings(url="mqtt://hub", password="secret")
    assert ServeSettings().options(link, broker) is None
    http = ServeSettings(listen="[::1]:8080").options(link, broker)
    assert http is not None
    assert (http.model, http.listen, http.broker, http.threads) == (str(link), ("::1", 8080), None, 1)
    mqtt = ServeSettings(mqtt="home/door").options(link, broker)
    assert mqtt is not None
    assert (mqtt.listen, mqtt.broker, mqtt.topic) == (None, broker, "home/door")
    with pytest.raises(ConfigError, match="ports end at 65535"):
        ServeSettings(listen="127.0.0.1:70000").options(link, broker)


@pytest.mark.parametrize("line", ['listen = "8080"', 'mqtt = "home/#"', "port = 8080"])
def test_names_the_line_of_what_cannot_be_served(tmp_path: Path, line: str):
    path = tmp_path / "agent.toml"
    path.write_text(f'fleet = "shop"\ndata = "digits"\n[serve]\n{line}\n')
    with pytest.raises(ConfigError, match=r"agent\.toml:4: "):
        load_config(path, {})


@pytest.mark.parametrize(
    ("wait", "seconds"), [("", None), ("90", 90.0), (90, 90.0), ("1.5s", 1.5), ("5m", 300.0), ("1 h", 3600.0)]
)
def test_waits_for_as_long_as_it_is_told(wait: str | int, seconds: float | None):
    assert load_config(None, {**GIVEN, "once": True, "wait": wait}).wait_seconds == seconds


@pytest.mark.parametrize("wait", ["0", "-5", "5 weeks", "m"])
def test_refuses_to_wait_for_what_is_no_time(wait: str):
    with pytest.raises(ConfigError, match="it must be seconds, or a number with s, m, h or d, such as 5m"):
        load_config(None, {**GIVEN, "once": True, "wait": wait})
    with pytest.raises(ConfigError, match="wait needs once"):
        load_config(None, {**GIVEN, "wait": "5m"})


@pytest.mark.parametrize("missing", ["fleet", "data"])
def test_says_what_is_missing(missing: str):
    with pytest.raises(ConfigError, match=rf"give --{missing} [A-Z]+, or {missing} in the file"):
        load_config(None, {key: value for key, value in GIVEN.items() if key != missing})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("fleet", "a/b", "1 to 64 letters"),
        ("id", "+", "1 to 64 letters"),
        ("device", "tpu", '"auto" or "cpu" or "cuda"'),
        ("device", "mps", 'the GPU of a Mac (mps) and others that are not CUDA stay unused: say "cpu"'),
        ("threads", -1, "at least 0"),
        ("broker", "http://hub", "mqtt://"),
        ("broker", "mqtt://me:secret@hub", "FEDLP_BROKER_PASSWORD"),
    ],
)
def test_refuses_a_wrong_value_in_one_line(key: str, value: object, words: str):
    with pytest.raises(ConfigError) as refusal:
        load_config(None, {**GIVEN, key: value})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_names_the_line_of_a_wrong_key(tmp_path: Path):
    path = tmp_path / "agent.toml"
    path.write_text('fleet = "shop"\ndate = "digits"\n')
    with pytest.raises(ConfigError, match=r'agent\.toml:2: unknown key "date".*"data"'):
        load_config(path, {})


def test_files_of_agents_and_coordinators_are_told_apart(tmp_path: Path):
    path = tmp_path / "some.toml"
    path.write_text('fleet = "shop"\nseed = 1\n[model]\nname = "mlp"\n')
    with pytest.raises(ConfigError, match=r"some\.toml: this is a coordinator's file; an agent's has fleet, data and"):
        load_config(path, {})
    path.write_text('fleet = "shop"\ndata = "digits"\n')
    with pytest.raises(
        ConfigError, match=r"some\.toml: this is an agent's file; a coordinator's has \[model\], \[data\]"
    ):
        load_fleet(path)
    path.write_text('name = "study"\n[fleet]\ndevices = 5\n')
    with pytest.raises(ConfigError, match=r"some\.toml: this is an experiment's file, for fedlp simulate"):
        load_fleet(path)
    path.write_text('fleet = "shop"\n[broker]\nurl = "mqtt://pi"\n')
    with pytest.raises(ConfigError, match=r"some\.toml: this is the file of a real fleet, for fedlp-coordinator"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [("raspberrypi", "raspberrypi"), ("till 3.shop.example", "till-3"), ("--x", "x"), ("ÄÖ", "device"), ("", "device")],
)
def test_makes_an_id_of_any_host_name(hostname: str, expected: str):
    assert default_id(hostname) == expected
    msgspec.convert(default_id(hostname), Name)


def test_keeps_state_apart_by_fleet_and_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = AgentConfig(fleet="shop", id="pi")
    monkeypatch.setenv("FEDLP_STATE_DIR", str(tmp_path))
    assert config.state_dir == tmp_path / "shop" / "pi"
    monkeypatch.delenv("FEDLP_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert config.state_dir == tmp_path / "xdg" / "fedlp-edge" / "shop" / "pi"
    assert AgentConfig(fleet="shop", id="pi", state=str(tmp_path)).state_dir == tmp_path


def test_draws_sessions_that_sort_by_time():
    sessions = [new_session() for _ in range(3)]
    assert len(set(sessions)) == 3
    assert [s[:12] for s in sessions] == sorted(s[:12] for s in sessions)
    msgspec.convert(sessions[0], Name)


def test_a_device_that_is_named_by_the_option_for_its_processor_is_told_the_right_one():
    with pytest.raises(
        ConfigError, match=r'--device is .pi-1.; it must be "auto" .*; it is --id that names the device$'
    ):
        load_config(None, {**GIVEN, "device": "pi-1"})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("localhost.localdomain", "localhost"),
        ("192.168.1.5", "192"),
        ("\u043a\u0430", "device"),
    ],
)
def test_an_id_that_any_device_may_have_is_said_to_be_none(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert AgentConfig().name_warning == (
        f"this device is called {name}, since its host has no name of its own: so is any other such device, and with a "
        "name it will be a new device for the fleet, with a new state; give it an --id"
    )
    assert AgentConfig(id=name).name_warning == ""


def test_an_id_after_a_container_is_said_to_change_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "3f2a91c0b7de")
    assert AgentConfig().name_warning == (
        "this device is called 3f2a91c0b7de after its container, and otherwise once that is made anew: a new device "
        "for the fleet, with a new state; give it an --id"
    )
    assert AgentConfig(id="3f2a91c0b7de").name_warning == ""
    monkeypatch.setattr("socket.gethostname", lambda: "raspberrypi")
    assert AgentConfig().name_warning == ""
