"""Roll-outs in one process and in virtual time: agents that train nothing, and models whose exam is a lookup.

A model is a few bytes. What its exam finds is decided by how they begin: ``bad`` fails the self-test, ``odd`` the exam
beside the old model, ``late`` its first inferences after the switch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.ordered_files import OrderFiles
from coordinator.rollout.release_files import find_release, release_name
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, RolloutStatus
from coordinator.rollout.rollout_service import Rollout
from coordinator.transfer.messenger import last_will
from device_agent.installation import installer
from device_agent.installation.exam_process import ExamInput, ExamOrder, ExamResult
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.transport.base import LastWill
from fedlp_edge.wire.messages import ShadowFigures, encode
from fedlp_edge.wire.topics import Topics
from tests.fleets.standin import StandIn, profile_of
from tests.fleets.world import InTurn, Life, SteppedTransport, World

FLEET = "rolled"
PATIENCE = 7200.0
RESTART_SECONDS = 2.0


class LookedUpExam:
    """What ``ExamProcess`` is to an installer."""

    def run(self, order: ExamOrder) -> ExamResult:
        content = Path(order.model).read_bytes()
        if content.startswith(b"bad"):
            return ExamResult(problem="answers its self-test otherwise")
        if content.startswith(b"late") and Path(order.model).is_symlink():
            return ExamResult(problem="ends by SIGSEGV")
        if not order.old:
            return ExamResult()
        agreement = 0.1 if content.startswith(b"odd") else 0.9
        return ExamResult(shadow=ShadowFigures(inputs=len(order.inputs), agreement=agreement))

    def stop(self) -> None:
        pass


@contextmanager
def looked_up_exams() -> Iterator[None]:
    """A process for every exam would take half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installer, "ExamProcess", LookedUpExam)
        patch.setattr(installer, "exam_inputs", lambda _directory, most: (ExamInput("input.npy"),) * min(1, most))
        yield


def write_release(directory: Path, content: bytes, *, depths: tuple[int, ...] = (1,)) -> Path:
    """Files as ``fedlp export`` would write them, with self-tests beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    for depth in depths:
        (directory / f"model-d{depth}.onnx").write_bytes(content + b" of depth %d" % depth)
        (directory / f"model-d{depth}.selftest.npz").write_bytes(b"self-test")
    return directory


class RolledOutFleet:
    """Agents of one fleet, and roll-outs to them.

    Args:
        directory: for roll-outs and states.
        devices: how many.
        root: root of trust of the agents.
    """

    def __init__(self, directory: Path, devices: int = 2, root: bytes | None = None) -> None:
        self.root = root
        self.signed: OrderFiles | None = None
        self.world = World()
        self.directory = directory
        self.names = [f"dev-{number}" for number in range(devices)]
        self.said: list[str] = []
        self.told: set[tuple[str, str]] = set()
        self.plans: dict[str, RolloutPlan] = {}
        self._lives: dict[str, list[Life]] = {}
        self._starts = itertools.count(1)

    def start_agents(self, die: Mapping[str, int] | None = None) -> None:
        for name in self.names:
            self.start_agent(name, (die or {}).get(name))

    def start_agent(self, name: str, die_at: int | None = None) -> Life:
        number = next(self._starts)
        return self._begin(name, self.world.begin(name, lambda life: self._take_part(life, f"{number:04d}"), die_at))

    def deploy(self, release: Path, *, name: str = "rollout", die_at: int | None = None, **choices: object) -> Life:
        """Starts a roll-out, or the same one again."""
        files = find_release(release)
        settings = {key: choices.pop(key) for key in list(choices) if key in RolloutSettings.__struct_fields__}
        self.plans[name] = RolloutPlan(
            run=choices.pop("run", f"deploy-{release_name(files, release)}"),  # type: ignore[arg-type]
            fleet=FLEET,
            release=release_name(files, release),
            source=str(release),
            config="",
            settings=RolloutSettings(**settings),  # type: ignore[arg-type]
            **choices,  # type: ignore[arg-type]
        )
        return self._begin(name, self.world.begin(name, self._roll_out, die_at))

    def until_ended(self, name: str = "rollout") -> RolloutStatus:
        """Lets time pass until a roll-out has ended by itself; whoever was killed is started again after a while."""
        with self.world.watched(), looked_up_exams():
            while not (life := self.world.lives[name]).ended or life.dead:
                assert self.world.now < PATIENCE, self.story()
                assert self.world.advance(), self.story()
                self._revive()
        if isinstance(life.result, BaseException):
            raise life.result
        return self.rollout(name).status()

    def pass_time(self, seconds: float) -> None:
        """Lets so much time pass."""
        until = self.world.now + seconds
        self.world.after(seconds, lambda: None)
        with self.world.watched(), looked_up_exams():
            while self.world.now < until and self.world.advance():
                self._revive()

    def end(self) -> None:
        for life in self.world.lives.values():
            if not life.ended:
                life.kill()

    def rollout(self, name: str = "rollout") -> RolloutDirectory:
        return RolloutDirectory(self.directory / name)

    def current(self, device: str) -> bytes:
        """The model that a device answers with."""
        link = self.directory / device / "models" / "current.onnx"
        return link.read_bytes() if link.exists() else b""

    def carried(self, release: str) -> int:
        """How many devices were told to install a release whose name begins so."""
        return len({device for device, name in self.told if name.startswith(release)})

    def steps(self, name: str) -> list[str]:
        """Of the first life of a service."""
        return self._lives[name][0].steps

    def story(self) -> str:
        ends = "\n".join(f"{name}: {[life.steps[-12:] for life in lives]}" for name, lives in self._lives.items())
        results = {name: lives[-1].result for name, lives in self._lives.items()}
        return f"at {self.world.now:.1f} s\n{ends}\n{results}\n" + "\n".join(self.said[-30:])

    def _begin(self, name: str, life: Life) -> Life:
        self._lives.setdefault(name, []).append(life)
        return life

    def _revive(self) -> None:
        for name, life in list(self.world.lives.items()):
            if not (life.dead and life.ended):
                continue
            # Keeps the place until it is back.
            self.world.lives[name] = Life(self.world, name, lambda _: None)
            self.world.lives[name].next_wakeup = None
            self.world.after(RESTART_SECONDS, lambda name=name: self._again(name))  # type: ignore[misc]

    def _again(self, name: str) -> None:
        if name in self.plans:
            self._begin(name, self.world.begin(name, self._roll_out))
        else:
            self.start_agent(name)

    def _roll_out(self, life: Life) -> bool:
        plan, directory = self.plans[life.name], self.rollout(life.name)
        assert directory.lock()
        try:
            directory.put_plan(plan)
            files = RolloutFiles(find_release(Path(plan.source)), signed=self.signed)
            transport = SteppedTransport(life, last_will(Topics(FLEET), plan.run), self._note)
            return Rollout(plan, files, directory, life.inbox, transport, self.said.append, lambda: self.world.now).run(
                gather_seconds=3.0
            )
        finally:
            directory.unlock()

    def _take_part(self, life: Life, session: str) -> bool:
        identity = Identity(Topics(FLEET), life.name, session)
        will = LastWill(identity.topics.of("device", life.name), encode(status(identity, None)))
        agent = Agent.open(
            AgentSettings(
                identity,
                "digits",
                self.directory / life.name,
                profile_of(life.name),
                root=self.root,
                measure_link=False,
            ),
            SteppedTransport(life, will),
            lambda sink: StandIn(sink, self._later(life)),  # type: ignore[arg-type, return-value]
            clock=lambda: self.world.now,
            inbox=life.inbox,  # type: ignore[arg-type]
            executor=InTurn(),
        )
        return agent.run()

    def _note(self, topic: str, payload: bytes) -> bytes:
        if "/down/" in topic and b'"Install"' in payload:
            self.told.add((topic.rpartition("/")[2], msgspec.json.decode(payload)["release"]))
        return payload

    def _later(self, life: Life):  # type: ignore[no-untyped-def]
        return lambda seconds, action: self.world.after(seconds, lambda: None if life.ended else action())
