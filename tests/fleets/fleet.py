"""A whole fleet as separate processes over a real broker, to be watched, killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.log import read_events
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE

PATIENCE_SECONDS = 200.0

NO_EXPORT = """
[export]
depths = "none"
"""
"""For fleets that are not about ONNX files: exporting costs more than all rounds together."""

CONFIG = """
fleet = "{fleet}"
seed = 7

[broker]
url = "{url}"
{broker}
[model]
name = "{model}"
input = {shape}
classes = {classes}
task = "{task}"

[training]
batch_size = 16

[rounds]
count = {rounds}
min_devices = {devices}
deadline_seconds = {deadline}
quorum = 0.5
{more}
"""

_TEST_DATA = """
[data]
evaluate = "digits"
"""


def pipe_ends(pid: int, mode: int) -> set[str]:
    """The pipes that a process has open for reading or for writing; none if it has ended."""
    found = set()
    with contextlib.suppress(OSError):  # the process has ended
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it has been closed
                pipe, information = str(path.readlink()), Path(f"/proc/{pid}/fdinfo/{path.name}").read_text()
                flags = int(information.split("flags:")[1].split()[0], 8)
                if pipe.startswith("pipe:") and flags & os.O_ACCMODE == mode:
                    found.add(pipe)
    return found


class Fleet:
    """Starts and ends processes; a context manager that leaves none behind.

    Args:
        directory: for everything that the fleet writes.
        url: of the broker.
        name: of the fleet; fleets on one broker must differ.
        model: of inputs 1x8x8 and 10 classes unless ``shape`` and ``classes`` say otherwise; devices run its code if it
            is a custom one.
        task: what the model learns; devices run its code if it is a custom one.
        broker: more lines for the ``[broker]`` table.
        more: lines for the end of the configuration; the model is judged on digits unless they hold a ``[data]`` table.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        name: str,
        *,
        devices: int = 3,
        rounds: int = 3,
        deadline: float = 60.0,
        model: str = "mlp",
        task: str = "classification",
        shape: tuple[int, ...] = (1, 8, 8),
        classes: int = 10,
        broker: str = "",
        more: str = "",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.run = directory / "run"
        self.url = url
        self.name = name
        self.devices = devices
        self.model = model
        self.task = task
        self._config = directory / "fleet.toml"
        self._config.write_text(
            CONFIG.format(
                fleet=name,
                url=url,
                broker=broker,
                model=model,
                task=task,
                shape=list(shape),
                classes=classes,
                rounds=rounds,
                devices=devices,
                deadline=deadline,
                more=more if "[data]" in more else more + _TEST_DATA,
            )
        )
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_coordinator(self) -> None:
        self._start("coordinator", "coordinator", "--config", str(self._config), "--out", str(self.run), "--quiet")

    def start_device(self, number: int, *more: str) -> None:
        self._start(f"dev-{number}", "device_agent", *self._options(number), *more)

    def start_hostile(self, number: int, attack: str) -> None:
        """A device that lies, see ``hostile_agent``."""
        self._start(f"dev-{number}", "tests.fleets.hostile_agent", attack, *self._options(number))

    def start_all(self, *data: str) -> None:
        """Starts the coordinator and all devices, with these data instead of their shares of the digits."""
        self.start_coordinator()
        for number in range(self.devices):
            self.start_device(number, *(("--data", data[number]) if data else ()))

    def kill(self, name: str) -> None:
        """As the kernel would, worker included."""
        child = self.processes.pop(name)
        if child.poll() is None:
            process = psutil.Process(child.pid)
            for victim in [process, *process.children(recursive=True)]:
                victim.send_signal(signal.SIGKILL)
        child.wait(60)

    def pause_worker(self, name: str) -> psutil.Process:
        """Holds up what a device trains, not what it says; ``resume`` of the result goes on."""
        worker = self._worker(self.processes[name].pid)
        worker.suspend()
        return worker

    @staticmethod
    def _worker(agent: int) -> psutil.Process:
        """The process that reads an agent's jobs: its child, or the one that the torch server has forked for it."""
        written = pipe_ends(agent, os.O_WRONLY)
        for process in psutil.process_iter():
            if process.pid not in (agent, os.getpid()) and written & pipe_ends(process.pid, os.O_RDONLY):
                return process
        raise AssertionError(f"nobody reads the jobs of process {agent}")

    def stop(self, name: str) -> int:
        self.processes[name].send_signal(signal.SIGINT)
        return self.processes.pop(name).wait(60)

    def wait_for(self, what: Callable[[list[AnyEvent]], bool]) -> list[AnyEvent]:
        """Waits until the events of the run so far satisfy ``what``."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            events = read_events(self.run / "events.jsonl") if (self.run / "events.jsonl").exists() else []
            if what(events):
                return events
            self._look_for_deaths()
            time.sleep(0.02)
        raise AssertionError(f"nothing came of it; {self.logs()}")

    def finish(self) -> Summary:
        """Waits until the coordinator ends by itself, with the code of a run that has done everything or has not."""
        code = self.processes.pop("coordinator").wait(PATIENCE_SECONDS)
        assert code in (0, EXIT_INCOMPLETE), self.logs()
        summary = load(self.run / "summary.json")
        assert (code == EXIT_INCOMPLETE) == bool(summary.shortcomings), self.logs()
        return summary

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in self.directory.glob("*.log"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)

    def _options(self, number: int) -> list[str]:
        name = f"dev-{number}"
        share = f"digits#share={number}/{self.devices}&partition=iid&seed=1&limit=200"
        return [
            *("--broker", self.url, "--fleet", self.name, "--id", name, "--data", share, "--threads", "1"),
            *("--state", str(self.directory / name), "--device", "cpu", "--once", "--no-calibrate"),
            *(("--allow-model", self.model) if ":" in self.model else ()),
            *(("--allow-model", self.task) if ":" in self.task else ()),
        ]

    def _start(self, name: str, module: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def _look_for_deaths(self) -> None:
        for name, process in self.processes.items():
            if process.poll() not in {None, 0}:
                raise AssertionError(f"{name} ended with code {process.returncode}; {self.logs()}")
