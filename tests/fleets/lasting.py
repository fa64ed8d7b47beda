"""Agents that stay from one run to the next, and what is deployed to them in between, in virtual time."""

from __future__ import annotations

from pathlib import Path

from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.release_files import find_release, release_name
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, RolloutStatus
from coordinator.rollout.rollout_service import Rollout
from coordinator.transfer.messenger import last_will
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.wire.topics import Topics
from tests.fleets.rolled_out import looked_up_exams
from tests.fleets.virtual import FLEET, VirtualFleet, untried_models
from tests.fleets.world import Life, SteppedTransport


class LastingFleet(VirtualFleet):
    """Agents that do not end with a run.

    Args:
        directory: for run directories, roll-outs and states.
        settings: of each run, as ``VirtualFleet`` has them.
    """

    def __init__(self, directory: Path, **settings: object) -> None:
        super().__init__(directory, **settings)  # type: ignore[arg-type]
        self.once = False
        self.said: list[str] = []
        self._plans: dict[str, RolloutPlan] = {}
        for name in self.names:
            self.start(name)

    def train(self, name: str) -> Summary:
        """A whole run, in a directory of this name; all have the name that their common configuration gives them."""
        self.run = self.directory / name
        self.start("coordinator")
        with looked_up_exams():
            ended = self.until_ended()
        if isinstance(ended.result, BaseException):
            raise ended.result
        return load(self.run / "summary.json")

    def begin_roll_out(self, name: str, source: Path, **choices: object) -> Life:
        files = find_release(source)
        for file in files:
            file.path.with_name(file.path.name.removesuffix(".onnx") + ".selftest.npz").write_bytes(b"self-test")
        settings = {key: choices.pop(key) for key in list(choices) if key in RolloutSettings.__struct_fields__}
        self._plans[name] = RolloutPlan(
            run=f"deploy-{name}",
            fleet=FLEET,
            release=release_name(files, source),
            source=str(source),
            config="",
            settings=RolloutSettings(**settings),  # type: ignore[arg-type]
            **choices,  # type: ignore[arg-type]
        )
        return self.world.begin(name, self._roll_out)

    def deploy(self, name: str, source: Path, **choices: object) -> RolloutStatus:
        """A whole roll-out, in a directory of this name."""
        return self.until_rolled_out(self.begin_roll_out(name, source, **choices))

    def until_rolled_out(self, life: Life) -> RolloutStatus:
        with self.world.watched(), untried_models(), looked_up_exams():
            while not life.ended:
                assert self.world.now < 3600.0, self.story()
                assert self.world.advance(), self.story()
                self.revive()
        if isinstance(life.result, BaseException):
            raise life.result
        return RolloutDirectory(self.directory / life.name).status()

    def pass_time(self, seconds: float) -> None:
        """Lets so much time pass."""
        until = self.world.now + seconds
        self.world.after(seconds, lambda: None)
        with self.world.watched(), untried_models(), looked_up_exams():
            while self.world.now < until and self.world.advance():
                self.revive()

    def current(self, device: str) -> bytes:
        """The model that a device answers with."""
        link = self.directory / device / "models" / "current.onnx"
        return link.read_bytes() if link.exists() else b""

    def kill(self, name: str) -> None:
        """A service is killed, and nobody starts it again."""
        self.world.lives[name].kill()
        self.world.bury(name)
        del self.world.lives[name]

    def end(self) -> None:
        for life in self.world.lives.values():
            if not life.ended:
                life.kill()

    def _roll_out(self, life: Life) -> bool:
        plan, directory = self._plans[life.name], RolloutDirectory(self.directory / life.name)
        assert directory.lock()
        try:
            directory.put_plan(plan)
            transport = SteppedTransport(life, last_will(Topics(FLEET), plan.run))
            files = RolloutFiles(find_release(Path(plan.source)))
            return Rollout(plan, files, directory, life.inbox, transport, self.said.append, lambda: self.world.now).run(
                gather_seconds=3.0
            )
        finally:
            directory.unlock()
