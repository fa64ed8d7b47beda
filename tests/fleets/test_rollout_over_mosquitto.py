"""Roll-outs over a real Mosquitto, with real models in onnxruntime: one bad canary, and kill -9 on both sides."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.inbox import InboxItem
from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.release_files import find_release, release_name
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, RolloutStatus
from coordinator.rollout.rollout_service import Rollout
from coordinator.transfer.messenger import last_will
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.topics import Topics
from tests.device_agent.installation.test_model_exam import write_classifier, write_inputs
from tests.fleets.untrained_agent import untrained_agent

pytestmark = pytest.mark.system

PATIENCE_SECONDS = 90.0


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def agents(url: str, fleet: str, names: list[str], directory: Path) -> Iterator[None]:
    """Agents in threads."""
    members = [untrained_agent(url, fleet, name, directory / name) for name in names]
    threads = [threading.Thread(target=member.run, daemon=True) for member in members]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for member in members:
            member.stop()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def deploy(url: str, fleet: str, release: Path, directory: Path, **choices: object) -> RolloutStatus:
    """A whole roll-out in this thread."""
    files = find_release(release)
    name = release_name(files, release)
    rollout = RolloutDirectory(directory)
    assert rollout.lock()
    plan = RolloutPlan(
        run=f"deploy-{name}",
        fleet=fleet,
        release=name,
        source=str(release),
        config="",
        settings=RolloutSettings(**choices),  # type: ignore[arg-type]
        probation_seconds=0.2,
    )
    rollout.put_plan(plan)
    inbox: queue.Queue[InboxItem] = queue.Queue()
    will = last_will(Topics(fleet), plan.run)
    transport = MqttTransport(BrokerAddress.parse(url, {}), f"{fleet}-coordinator", will)
    assert Rollout(plan, RolloutFiles(files), rollout, inbox, transport).run(gather_seconds=2.0)
    rollout.unlock()
    return rollout.status()


def release_of(directory: Path, weights: list[float]) -> Path:
    directory.mkdir()
    write_classifier(directory / "model-d1.onnx", weights)
    return directory


def test_six_agents_one_canary_and_a_bad_model_that_five_never_see(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    names, fleet = [f"dev-{number}" for number in range(6)], "canary"
    old = release_of(tmp_path / "old", [1, 1, 1])
    new = release_of(tmp_path / "new", [1, -1, -1])  # passes its own self-test, and knows one class of three
    with agents(mosquitto.url, fleet, names, tmp_path):
        found = deploy(mosquitto.url, fleet, old, tmp_path / "first", canary="")
        assert {standing.state for standing in found.devices.values()} == {"installed"}
        for name in names:
            live = tmp_path / name / "models" / "live"
            live.mkdir(exist_ok=True)
            write_inputs(live)
        found = deploy(mosquitto.url, fleet, new, tmp_path / "second", canary="1")
    assert found.phase == "stopped"
    (canary,) = [device for device, standing in found.devices.items() if standing.state == "failed"]
    assert {s.state for device, s in found.devices.items() if device != canary} == {"waiting"}
    figures = found.devices[canary].shadow
    assert figures is not None
    assert (figures.inputs, figures.agreement) == (10, 0.4)
    for name in names:
        models = tmp_path / name / "models"
        assert (models / "current.onnx").read_bytes() == (old / "model-d1.onnx").read_bytes()
        assert len(list((models / "versions").iterdir())) == 1
        assert list((tmp_path / name / "releases").iterdir()) == []


class Processes:
    """Agents and the command as processes, to be killed."""

    def __init__(self, directory: Path, url: str, fleet: str) -> None:
        self._directory, self._url, self._fleet = directory, url, fleet
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "fleet.toml").write_text(f'fleet = "{fleet}"\n\n[broker]\nurl = "{url}"\n')

    def start_agent(self, name: str) -> None:
        state = str(self._directory / name)
        self._start(name, "-m", "tests.fleets.untrained_agent", self._url, self._fleet, name, state)

    def deploy(self, release: Path, *more: str) -> None:
        words = [
            str(release),
            "--config",
            str(self._directory / "fleet.toml"),
            "--out",
            str(self._directory / "rollout"),
        ]
        self._start("deploy", "-m", "coordinator", "deploy", *words, "--gather", "1", *more)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in self._directory.glob("*.log"))

    def _start(self, name: str, *words: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def test_kill_9_of_agent_and_command_in_the_middle_changes_nothing(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    old, new = release_of(tmp_path / "old", [1, 1, 1]), release_of(tmp_path / "new", [1, 2, 1])
    fleet = Processes(tmp_path, mosquitto.url, "killed")
    link = tmp_path / "dev-0" / "models" / "current.onnx"
    choices = ("--canary-device", "dev-0", "--probation", "5", "--min-agreement", "30%")

    def answers_with(release: Path) -> bool:
        return link.exists() and link.read_bytes() == (release / "model-d1.onnx").read_bytes()

    try:
        for name in ("dev-0", "dev-1"):
            fleet.start_agent(name)
        fleet.deploy(old, "--canary", "0", "--probation", "0")
        assert fleet.running.pop("deploy").wait(PATIENCE_SECONDS) == 0, fleet.logs()
        (tmp_path / "rollout").rename(tmp_path / "first")

        fleet.deploy(new, *choices)
        until(lambda: answers_with(new))  # the canary is on probation
        fleet.kill("deploy")
        fleet.kill("dev-0")
        assert answers_with(new)
        fleet.start_agent("dev-0")
        fleet.deploy(new, *choices)
        assert fleet.running.pop("deploy").wait(PATIENCE_SECONDS) == 0, fleet.logs()
    finally:
        for name in list(fleet.running):
            fleet.kill(name)
    found = RolloutDirectory(tmp_path / "rollout").status()
    assert {device: standing.state for device, standing in found.devices.items()} == {
        "dev-0": "installed",
        "dev-1": "installed",
    }
    for name in ("dev-0", "dev-1"):
        content = (tmp_path / name / "models" / "current.onnx").read_bytes()
        assert content == (new / "model-d1.onnx").read_bytes()
    log = (tmp_path / "dev-0.log").read_text()
    assert "is tried again" in log, "the old model was put back, and the new one examined anew"
