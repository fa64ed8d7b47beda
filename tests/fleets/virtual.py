"""One run of a fleet in a ``World``: the real coordinator and the real agents, with workers that train nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from coordinator.config import DataSettings, FleetConfig
from coordinator.service import Coordinator
from coordinator.transfer.messenger import last_will
from device_agent import deployment, service
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.probe.host import probe_host
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.base import LastWill
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.topics import Topics
from tests.fleets.standin import MODEL, StandIn, profile_of
from tests.fleets.world import InTurn, Life, SteppedTransport, Tamper, World

FLEET = "virtual"

PATIENCE = 3600.0
"""Virtual seconds after which a story that should have ended is taken to hang."""

RESTART_SECONDS = 2.0
MAX_LIVES = 5


_machine = cache(probe_host)


@contextmanager
def untried_models() -> Iterator[None]:
    """A process for every model that is installed would take half a second, in some hundred fleets of a test.

    Nor does each of their devices look at the machine, which is the same for all of them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment, "try_model", lambda path: True)
        patch.setattr(service, "probe_host", _machine)
        yield


class VirtualFleet:
    """One run of a coordinator and its devices.

    Args:
        directory: for run directory and states.
        devices: how many; every second one is small and gets depth 1.
        rounds: of the run.
        head_mode: of the model.
        lpr: layer-preserving rate.
        scheme: more of the scheme's settings.
        ema: share of the old in the average of the models.
        width: numbers in a unit.
        skew: seconds by which each service's clock differs from the others'.
        tamper: what becomes of each thing that a device publishes, by its name.
        worker: what a device trains with, and the coordinator evaluates with, by its name.
        data: of the devices whose workers read any, by name.
        update: how updates and model travel.

    Attributes:
        on_event: called with every event of the coordinator.
        hand_out: whether a coordinator is to hand out the models of the finished run.
        silent: devices whose owners let them report no metrics.
        once: whether agents end with the run.
        dies: the step at which a later life of a service is killed in its turn.
    """

    def __init__(
        self,
        directory: Path,
        *,
        devices: int = 2,
        rounds: int = 2,
        head_mode: HeadMode = "shared",
        lpr: float = 1.0,
        scheme: Mapping[str, object] | None = None,
        ema: float = 0.0,
        optimizer: str = "momentum",
        width: int = 600,
        skew: Mapping[str, float] | None = None,
        tamper: Mapping[str, Tamper] | None = None,
        worker: Mapping[str, type[StandIn]] | None = None,
        data: Mapping[str, str] | None = None,
        update: UpdateSettings | None = None,
        **round_settings: object,
    ) -> None:
        self.world = World()
        self.directory = directory
        self.run = directory / "run"
        self.events: list[AnyEvent] = []
        self.workers: list[StandIn] = []
        self.names = [f"dev-{number}" for number in range(devices)]
        self.everybody = ["coordinator", *self.names]
        self.on_event: Callable[[AnyEvent], None] = lambda event: None
        self.dies: Callable[[str], int | None] = lambda name: None
        self.hand_out = False
        self.silent: set[str] = set()
        self.once = True
        self._skew, self._tamper = skew or {}, tamper or {}
        self._worker = {} if worker is None else worker
        self._data = data or {}
        self._head_mode: HeadMode = head_mode
        self._width = width
        self._starts = itertools.count(1)
        self._lives: dict[str, list[Life]] = {}
        self.config = FleetConfig(
            fleet=FLEET,
            model=ModelSettings(name=MODEL.name, input=MODEL.input, classes=2, head_mode=head_mode),
            data=DataSettings(evaluate="digits"),
            scheme=SchemeSettings(lpr=lpr, **(scheme or {})),  # type: ignore[arg-type]
            update=update or UpdateSettings(),
            server=ServerSettings(optimizer=optimizer, ema=ema),  # type: ignore[arg-type]
            rounds=RoundSettings(**{"count": rounds, "min_devices": devices, **round_settings}),  # type: ignore[arg-type]
        )

    def start(self, name: str, die_at: int | None = None, *, session: str = "") -> Life:
        """Starts a service (again); ``dev-1.2`` is another agent that takes itself for ``dev-1``.

        Args:
            name: of the service; ``coordinator.2`` is another coordinator of the same fleet, with a run of its own.
            die_at: the step before which it is killed.
            session: of an agent; by default one that sorts after those of earlier starts, as with a good clock.
        """
        number = next(self._starts)
        if name.startswith("coordinator"):
            life = self.world.begin(name, self._coordinate, die_at)
        else:
            life = self.world.begin(name, lambda life: self._take_part(life, session or f"{number:04d}"), die_at)
        self._lives.setdefault(name, []).append(life)
        return life

    def start_all(self, die: dict[str, int] | None = None) -> None:
        for name in self.everybody:
            self.start(name, (die or {}).get(name))

    def until_ended(self) -> Life:
        """Lets time pass until the coordinator ends by itself; who was killed is started again after a while."""
        with self.world.watched(), untried_models():
            while not (ended := self.world.lives["coordinator"]).ended or ended.dead:
                assert self.world.now < PATIENCE, self.story()
                assert self.world.advance(), self.story()
                self.revive()
        return ended

    def until_all_ended(self) -> None:
        """Lets time pass until the agents have ended by themselves, too."""
        self.until_ended()
        with self.world.watched(), untried_models():
            while any(not life.ended for life in self.world.lives.values()):
                assert self.world.now < PATIENCE, self.story()
                assert self.world.advance(), self.story()

    def finish(self) -> Summary:
        """As ``until_ended``, then ends the rest; what the coordinator raised is raised here."""
        ended = self.until_ended()
        for life in self.world.lives.values():
            if not life.ended:
                life.kill()
        if isinstance(ended.result, BaseException):
            raise ended.result
        return load(self.run / "summary.json")

    def revive(self) -> None:
        for name, life in list(self.world.lives.items()):
            if life.dead and life.ended:
                self.world.lives.pop(name)
                next_death = self.dies(name) if len(self._lives[name]) < MAX_LIVES else None
                self.world.after(RESTART_SECONDS, lambda name=name, at=next_death: self.start(name, at))  # type: ignore[misc]
                if name == "coordinator":
                    # Keeps the place until it is back.
                    self.world.lives[name] = Life(self.world, name, lambda _: None)
                    self.world.lives[name].next_wakeup = None

    def steps(self, name: str) -> list[str]:
        """Of the first life of a service."""
        return self._lives[name][0].steps

    def ended(self, name: str) -> object:
        """What became of the last life of a service: what it returned or raised; None if it was stopped."""
        return self._lives[name][-1].result if name in self._lives else None

    @property
    def trainings(self) -> int:
        """Of all devices in all lives."""
        return sum(worker.trainings for worker in self.workers)

    def story(self) -> str:
        ends = "\n".join(f"{name}: {[life.steps[-12:] for life in lives]}" for name, lives in self._lives.items())
        return f"at {self.world.now:.1f} s\n{ends}\n" + "\n".join(repr(event) for event in self.events[-30:])

    def _coordinate(self, life: Life) -> bool:
        kind = self._worker.get("coordinator", StandIn)
        worker = kind(life.inbox.put, self._later(life), head_mode=self._head_mode, width=self._width)
        coordinator = Coordinator(
            config=self.config,
            directory=RunDirectory.open(self.run if life.name == "coordinator" else self.directory / life.name),
            inbox=life.inbox,
            transport=SteppedTransport(life, last_will(Topics(FLEET), self.config.run_name)),
            worker=worker,  # type: ignore[arg-type]
            emit=self._emit,
            clock=self._clock(life),
            executor=InTurn(),
        )
        return coordinator.run(hand_out=self.hand_out)

    def _emit(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.on_event(event)

    def _clock(self, life: Life) -> Callable[[], float]:
        return lambda: self.world.now + self._skew.get(life.name, 0.0)

    def _take_part(self, life: Life, session: str) -> bool:
        device = life.name.partition(".")[0]
        identity = Identity(Topics(FLEET), device, session)
        kind = self._worker.get(device, StandIn)

        def make_worker(sink: Callable[..., None]) -> StandIn:
            self.workers.append(kind(sink, self._later(life), head_mode=self._head_mode, width=self._width))
            return self.workers[-1]

        will = LastWill(identity.topics.of("device", device), encode(status(identity, None)))
        agent = Agent.open(
            AgentSettings(
                identity,
                self._data.get(device, "digits"),
                self.directory / life.name,
                profile_of(device),
                once=self.once,
                report_metrics=device not in self.silent,
            ),
            SteppedTransport(life, will, self._tamper.get(device, lambda topic, payload: payload)),
            make_worker,  # type: ignore[arg-type]
            clock=self._clock(life),
            inbox=life.inbox,
            executor=InTurn(),
        )
        return agent.run()

    def _later(self, life: Life) -> Callable[[float, Callable[[], None]], None]:
        """A worker of a life that is over answers nobody."""
        return lambda seconds, action: self.world.after(seconds, lambda: None if life.ended else action())
