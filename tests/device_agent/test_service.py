"""The whole agent with its real worker, against a coordinator that follows a script, over a broker with faults."""

from __future__ import annotations

import errno
import functools
import os
import threading
from concurrent.futures import Future
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.config import new_session
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings, unusable
from device_agent.state_directory import StateDirectory
from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import DataError, DeviceError, StorageError
from fedlp_edge.probe.profiles import find_profile
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.in_memory import InjectedFault, MemoryHub
from fedlp_edge.wire.admission import Admission, Expectation
from fedlp_edge.wire.messages import Assignment, Offer, Ready, RunEnded, Status, Task, UnitVersion, encode
from fedlp_edge.wire.tensors import pack, unpack_file
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import Build, Built, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess
from tests.device_agent.scripted import ScriptedCoordinator
from tests.device_agent.support import update

TOPICS = Topics("shop")
MODEL = ModelSettings(name="mlp", input=(1, 8, 8))
OPTIONS = WorkerOptions(threads=1, device="cpu")
CHUNK_BYTES = 20_000
DEPTH = 2


class RunningAgent:
    """An agent in a thread of its own."""

    def __init__(self, hub: MemoryHub, state: Path, data: str = "digits#share=0/8", session: str = "") -> None:
        self.identity = Identity(TOPICS, "pi", session or new_session())
        self.client = f"agent-{self.identity.session}"
        settings = AgentSettings(self.identity, data, state, find_profile("class-l"), 1, once=True)
        will = LastWill(TOPICS.of("device", "pi"), encode(status(self.identity, None)))
        self.agent = Agent.open(settings, hub.transport(self.client, will), functools.partial(WorkerProcess, OPTIONS))
        self.result: Future[bool] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result.set_result(self.agent.run())
        except BaseException as error:
            self.result.set_exception(error)

    def stop(self) -> bool:
        self.agent.stop()
        return self.result.result(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Blueprint, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("model") / "state.safetensors"
    with WorkerProcess(OPTIONS) as worker:
        built = worker.call(Build(model=MODEL, seed=1, state_path=str(path)), timeout=60)
    assert isinstance(built, Built)
    return built.blueprint, unpack_file(path)


def make_task(round: int, manifest: tuple[UnitVersion, ...], deadline_seconds: float = 60.0) -> Task:
    return Task(
        run="run",
        round=round,
        device="pi",
        depth=DEPTH,
        seed=1,
        lpr=0.5,
        granularity="layer",
        prune="upload",
        training=TrainingSettings(),
        manifest=manifest,
        deadline_seconds=deadline_seconds,
        chunk_bytes=CHUNK_BYTES,
    )


def tiny_onnx() -> bytes:
    import onnx
    from onnx import TensorProto, helper

    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 64])
    graph = helper.make_graph([helper.make_node("Flatten", ["input"], ["logits"])], "tiny", [entry], [leaving])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def test_offers_no_update_of_the_device_whose_state_was_copied(tmp_path: Path):
    state = StateDirectory.open(tmp_path)
    state.outbox.put(msgspec.structs.replace(update(1, size=0), device="cam"), {})
    state.lock.close()
    device = RunningAgent(MemoryHub(immediate=True), tmp_path)
    device.stop()
    assert list((tmp_path / "outbox").iterdir()) == []


def test_lives_a_whole_run(tmp_path: Path, model: tuple[Blueprint, dict[str, np.ndarray]]):
    blueprint, weights = model
    assignment = Assignment(run="run", device="pi", model=MODEL, blueprint_digest=blueprint.digest, depth=DEPTH)
    hub = MemoryHub(immediate=True)
    coordinator = ScriptedCoordinator(hub, TOPICS, "pi")
    coordinator.announce("run", "s1")
    units = blueprint.exchanged_by(DEPTH)
    manifest = tuple(
        coordinator.put(u.id, pack({t.name: weights[t.name] for t in u.tensors}), CHUNK_BYTES) for u in units
    )

    # It reports what its profile leaves it, and takes its place.
    device = RunningAgent(hub, tmp_path)
    facts = coordinator.wait(Status, lambda s: s.online).facts
    assert facts is not None
    assert (facts.profile, facts.training_memory, facts.threads) == ("class-l", 17_500_000, 1)
    assert facts.samples > 100
    coordinator.tell(assignment)
    assert coordinator.wait(Ready).depth == DEPTH

    # A chunk of the broadcast is lost; it asks for that one alone, trains, and delivers what its draw keeps.
    hub.faults.append(InjectedFault(lambda topic, _: topic.endswith("model/L1"), "drop", times=1))
    for version in manifest:
        coordinator.broadcast(version)
    coordinator.tell(make_task(3, manifest))
    request = coordinator.answer_request()
    assert (request.unit, request.missing) == ("L1", ((0, 1),))
    offer = coordinator.wait(Offer)
    kept = draw_sent_tensors(units, lpr=0.5, lpr_of={}, seed=1, round=3, device="pi")
    assert [part.unit for part in offer.units] == list(kept)
    blob = coordinator.fetch(offer, CHUNK_BYTES)
    expected = Expectation("pi", 3, DEPTH, facts.samples, kept)
    admitted = Admission("run", blueprint).admit(offer, blob, expected)
    assert any(np.abs(delta).max() > 0 for delta in admitted.deltas.values())
    assert offer.peak_memory > 0

    # It is stopped with the update undelivered. Its next life offers the same bytes, without training again.
    assert device.stop() is False
    coordinator.wait(Status, lambda s: not s.online)
    device = RunningAgent(hub, tmp_path)
    again = coordinator.wait(Offer)
    assert (again.digest, again.seconds, again.session) == (offer.digest, offer.seconds, device.identity.session)
    coordinator.accept(again)
    coordinator.wait(Status, lambda s: s.online)
    coordinator.tell(assignment)
    coordinator.wait(Ready)
    assert list((tmp_path / "outbox").iterdir()) == []

    # The connection is lost while it trains; it delivers afterwards. The model is still in its cache.
    coordinator.tell(make_task(3, manifest))
    hub.drop(device.client)
    hub.reconnect(device.agent._transport)
    same = coordinator.wait(Offer)
    assert same.digest == offer.digest
    assert same.bytes_down == 0
    coordinator.accept(same)

    # The run is over: it installs the final model, says goodbye and ends by itself.
    onnx = coordinator.put(f"onnx-{DEPTH}", tiny_onnx(), CHUNK_BYTES)
    coordinator.tell(RunEnded(run="run", device="pi", rounds=3, models=(onnx,)))
    coordinator.answer_request()
    assert device.result.result(30) is True
    assert (tmp_path / "models" / "current.onnx").resolve().name == "run-depth-2.onnx"
    assert coordinator.wait(Status, lambda s: not s.online)


def test_delivers_what_one_batch_has_given_when_the_round_is_nearly_over(
    tmp_path: Path, model: tuple[Blueprint, dict[str, np.ndarray]]
):
    blueprint, weights = model
    hub = MemoryHub(immediate=True)
    coordinator = ScriptedCoordinator(hub, TOPICS, "pi")
    coordinator.announce("run", "s1")
    units = blueprint.exchanged_by(DEPTH)
    packed = {unit.id: pack({tensor.name: weights[tensor.name] for tensor in unit.tensors}) for unit in units}
    manifest = tuple(coordinator.put(id, blob, CHUNK_BYTES) for id, blob in packed.items())
    device = RunningAgent(hub, tmp_path)
    coordinator.wait(Status, lambda s: s.online)
    coordinator.tell(
        Assignment(run="run", device="pi", model=MODEL, blueprint_digest=blueprint.digest, depth=DEPTH),
    )
    coordinator.wait(Ready)
    for version in manifest:
        coordinator.broadcast(version)
    coordinator.tell(make_task(1, manifest, deadline_seconds=0.5))
    first = coordinator.wait(Offer)
    coordinator.accept(first)
    coordinator.tell(make_task(2, manifest, deadline_seconds=0.001))
    offer = coordinator.wait(Offer)
    assert (offer.round, offer.samples) == (2, TrainingSettings().batch_size)
    device.stop()


def test_ends_with_one_line_when_the_data_are_missing(tmp_path: Path):
    device = RunningAgent(MemoryHub(immediate=True), tmp_path, data="npz:/nowhere/x.npz")
    with pytest.raises(DataError, match=r"/nowhere/x\.npz"):
        device.result.result(60)


def test_ends_when_an_older_agent_has_its_name(tmp_path: Path):
    hub = MemoryHub(immediate=True)
    first = RunningAgent(hub, tmp_path / "a", session="0001")
    watcher = ScriptedCoordinator(hub, TOPICS, "pi")
    watcher.wait(Status, lambda s: s.online)
    second = RunningAgent(hub, tmp_path / "b", session="0002")
    with pytest.raises(DeviceError, match="already connected as device"):
        second.result.result(60)
    assert watcher.wait(Status, lambda s: s.session == "0002").online
    assert watcher.wait(Status).session == "0001"  # the elder has the last word
    first.stop()


def test_refuses_a_state_directory_that_another_agent_uses(tmp_path: Path):
    hub = MemoryHub(immediate=True)
    first = RunningAgent(hub, tmp_path)
    with pytest.raises(StorageError, match="another agent is running there"):
        RunningAgent(hub, tmp_path)
    first.stop()


@pytest.mark.parametrize(
    ("there", "number", "words"),
    [
        (False, errno.ENOENT, "was removed while the agent was at work; start it again"),
        (
            True,
            errno.ENOSPC,
            "No space left on device; make room there, or choose another place; --state names another place",
        ),
        (True, errno.EMFILE, "Too many open files; allow this process more open files"),
    ],
)
def test_state_directory_that_fails_is_one_line_with_its_remedy(
    tmp_path: Path, there: bool, number: int, words: str
) -> None:
    state = tmp_path / "state"
    if there:
        state.mkdir()
    assert words in unusable(state, OSError(number, os.strerror(number)))


def test_error_of_another_file_than_those_of_the_state_is_told_as_that(tmp_path: Path) -> None:
    error = OSError(errno.EIO, os.strerror(errno.EIO), "/sys/class/hwmon/hwmon0/temp1_input")
    assert unusable(tmp_path, error) == (
        "/sys/class/hwmon/hwmon0/temp1_input: Input/output error; the disk or device that holds it may be failing "
        "(dmesg tells)"
    )
    own = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "cache" / "x"))
    assert unusable(tmp_path, own).startswith(f"{tmp_path}: No space left on device")


def test_device_whose_disk_fails_says_goodbye_so_that_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = MemoryHub(immediate=True)
    watcher = ScriptedCoordinator(hub, TOPICS, "pi")
    device = RunningAgent(hub, tmp_path)
    watcher.wait(Status, lambda s: s.online)

    def full(self: Agent, event: object) -> list[object]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Agent, "_translate", full)
    watcher.announce("run", "s1")
    assert not watcher.wait(Status, lambda s: not s.online).online
    with pytest.raises(StorageError, match="No space left on device; make room there"):
        device.result.result(30)
