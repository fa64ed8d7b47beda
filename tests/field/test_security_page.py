"""docs/security.md by the letter: what it says to type gives a broker that keeps what the page promises."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.transport.base import Received, Refused
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.transport.clients import connected

ROOT = Path(__file__).parents[2]
PLACES = ("/etc/mosquitto/certs", "/etc/mosquitto", "/etc/fedlp")


@dataclass(frozen=True)
class Place:
    """The directory in which everything was typed, and the broker that came of it."""

    directory: Path
    broker: MosquittoBroker
    settings: str

    def login(self, user: str, **changes: str) -> BrokerSettings:
        given = {
            "url": self.broker.url.replace("127.0.0.1", "localhost"),
            "username": user,
            "password_file": str(self.directory / f"{user}.password"),
            "ca": str(self.directory / "ca.pem"),
        }
        return BrokerSettings(**(given | changes))  # type: ignore[arg-type]


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All of it, but what root alone may do; the broker stands on this machine and looks for its files here."""
    directory = tmp_path_factory.mktemp("security")

    def here(text: str) -> str:
        text = text.replace("broker.local", "localhost")
        for place in PLACES:
            text = text.replace(place, str(directory))
        return text

    for block in blocks("bash"):
        lines = [line for line in here(block).splitlines() if not line.startswith("sudo ")]
        script = "set -e\n" + "\n".join(lines)
        done = subprocess.run(["bash", "-c", script], cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    rules, configuration = (here(block) for block in blocks("text"))
    (directory / "rules").write_text(rules)
    own = [
        line for line in configuration.splitlines() if not line.startswith(("per_listener", "listener", "allow_anon"))
    ]
    with MosquittoBroker(extra=own, anonymous=False) as broker:
        yield Place(directory, broker, here(blocks("toml")[0]))


def test_coordinator_and_device_of_the_page_meet(typed: Place) -> None:
    with (
        connected(typed.login("coordinator").address({}), "c") as coordinator,
        connected(typed.login("pi-1").address({}), "d") as device,
    ):
        coordinator.subscribe("fedlp/greenhouse/up/+")
        device.transport.publish("fedlp/greenhouse/up/pi-1", b"ready")

        assert coordinator.wait(Received).payload == b"ready"


def test_device_of_the_page_cannot_speak_for_another_one(typed: Place) -> None:
    with connected(typed.login("pi-1").address({}), "d") as device:
        token = device.transport.publish("fedlp/greenhouse/up/pi-2", b"forged")

        assert device.wait(Refused).token == token


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password_file": "pi-2.password"}, "refuses the login of user 'pi-1'"),
        ({"url": "mqtts://127.0.0.1"}, "it is made for localhost, 192.168.1.10"),
        ({"ca": ""}, "an authority that is not known here"),
    ],
)
def test_what_the_page_shuts_out_is_shut_out(typed: Place, changes: dict[str, str], words: str) -> None:
    if "password_file" in changes:
        changes = {"password_file": str(typed.directory / changes["password_file"])}
    if "url" in changes:
        changes = {"url": typed.broker.url}
    with pytest.raises(BrokerError, match=words):
        MqttTransport(typed.login("pi-1", **changes).address({}), "x").start(print)


def test_files_with_secrets_are_the_owners_alone(typed: Place) -> None:
    for name in ("ca.key", "broker.key", "pi-1.password", "passwords"):
        assert (typed.directory / name).stat().st_mode & 0o077 == 0
    assert "$" in (typed.directory / "passwords").read_text()
    password = (typed.directory / "pi-1.password").read_text().strip()
    assert password not in (typed.directory / "passwords").read_text()


def test_settings_of_the_page_are_those_that_agents_read(typed: Place, tmp_path: Path) -> None:
    from device_agent.config import load_config

    file = tmp_path / "agent.toml"
    file.write_text(typed.settings)
    address = load_config(file, {"fleet": "greenhouse", "data": "digits"}).broker.address({})

    assert (address.username, address.tls) == ("pi-1", True)
    assert address.password == (typed.directory / "pi-1.password").read_text().strip()


def test_login_that_guesses_the_coordinators_client_id_throws_nobody_off(typed: Place) -> None:
    boss, device = typed.login("coordinator").address({}), typed.login("pi-1").address({})
    with connected(boss, new_client_id("fedlp", "greenhouse", "coordinator")) as coordinator:
        coordinator.subscribe("fedlp/greenhouse/up/+")
        for guess in ("fedlp-greenhouse-coordinator", "fedlp-greenhouse-coordinator-"):
            with connected(device, guess) as intruder:
                intruder.transport.publish("fedlp/greenhouse/up/pi-1", guess.encode())
                events = [coordinator.events.get(timeout=60)]

            assert [event.payload for event in events if isinstance(event, Received)] == [guess.encode()]
