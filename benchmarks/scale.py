"""How one coordinator carries 10, 100 and 1,000 devices.

``python -m benchmarks.scale`` starts, for each number, a Mosquitto, the real coordinator process and a few processes
full of devices (``load_devices``): the protocol whole, no training, everybody in every round, so all devices finish at
the same moment. Prints one JSON line for each number, and a table with ``--table``. docs/scaling.md explains the keys.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil

from benchmarks.fleets.load_devices import Load, Tally, constant_of, samples_of
from benchmarks.fleets.models import MODELS, Model, blueprint
from fedlp_edge.core.algorithm import server
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.settings import ServerSettings
from fedlp_edge.reporting.events import AnyEvent, RoundFinished, RoundStarted, RunFinished
from fedlp_edge.reporting.log import EventReader
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker

ROOT = Path(__file__).resolve().parents[1]
FLEET = "scale"
POLL_SECONDS = 0.05
FILES = 65536
"""Open files that broker and load ask for; each connection is one of them on either side."""

COORDINATOR_FILES = 1024
"""Open files of the coordinator: what most systems give a process unasked."""

CONFIG = """
fleet = "{fleet}"
[broker]
url = "{url}"
[model]
{model}
[data]
evaluate = ""
[scheme]
depth = "full"
[rounds]
count = {rounds}
min_devices = {devices}
deadline_seconds = {deadline}
keep_checkpoints = 0
[export]
depths = "none"
"""


class Measured(msgspec.Struct, kw_only=True):
    """One line. Sizes are in MB of 10**6 bytes, traffic counts payloads.

    Attributes:
        ready_s: from the first device's connection until the first round opens.
        round_s: of each round, from its opening to its commit.
        coordinator_rss_mb: highest resident memory of the coordinator process.
        coordinator_growth_mb: its resident memory after the last round, less that after the first.
        coordinator_uplink_mb: per round, what the coordinator published of the model, repeats included.
        framing_percent: of the uplink, on top of the model's bytes as float32.
        coordinator_downlink_mb: per round, the updates that reached it.
        control_bytes: per device and round, both directions, joining and leaving included.
        repeats_mb: per round, chunks that were sent to single devices; part of the uplink.
        coordinator_cpu_s: processor seconds per round.
        broker_cpu_s: likewise.
        load_cpu_s: likewise, of all devices together.
        exact: whether the final model is, bit for bit, the one computed from the devices' constants.
    """

    devices: int
    rounds: int
    max_queued_messages: int | None
    ready_s: float
    round_median_s: float
    round_s: list[float]
    coordinator_rss_mb: float
    coordinator_growth_mb: float
    broker_rss_mb: float
    coordinator_uplink_mb: float
    framing_percent: float
    coordinator_downlink_mb: float
    control_bytes: float
    repeats_mb: float
    coordinator_cpu_s: float
    broker_cpu_s: float
    load_cpu_s: float
    contributors: list[int]
    sent: dict[str, int]
    losses: int
    warnings: dict[str, int]
    exact: bool


class _Watched:
    """A process whose memory and processor time are followed."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0
        self.rss = 0

    def look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.rss = self._process.memory_info().rss
            self.peak = max(self.peak, self.rss)

    def cpu(self) -> float:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = self._process.cpu_times()
            return float(times.user + times.system)
        return 0.0


class _Course:
    """The run as its events tell it, with memory and processor time at its turns."""

    def __init__(self, log: Path, coordinator: _Watched, others: dict[str, _Watched]) -> None:
        self._reader = EventReader(log)
        self._coordinator = coordinator
        self._others = others
        self.opened_at: float | None = None
        self.finished: list[RoundFinished] = []
        self.rss_after: list[int] = []
        self.over = False
        self._cpu_before: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()

    def look(self) -> None:
        for watched in (self._coordinator, *self._others.values()):
            watched.look()
        for event in self._reader.poll():
            self._note(event)

    def _note(self, event: AnyEvent) -> None:
        match event:
            case RoundStarted() if self.opened_at is None:
                self.opened_at = event.time
                self._cpu_before = self._cpu()
            case RoundFinished():
                self.finished.append(event)
                self.rss_after.append(self._coordinator.rss)
                self.cpu = Counter(self._cpu())
                self.cpu.subtract(self._cpu_before)
            case RunFinished():
                self.over = True

    def _cpu(self) -> Counter[str]:
        roles = {"coordinator": self._coordinator, **self._others}
        times: Counter[str] = Counter()
        for name, watched in roles.items():
            times[name.partition(" ")[0]] += watched.cpu()  # type: ignore[assignment]
        return times


def measure(
    devices: int,
    *,
    rounds: int = 3,
    processes: int = 2,
    max_queued: int | None = None,
    deadline: float = 300.0,
    model: Model = MODELS["small"],
    keep: Path | None = None,
) -> Measured:
    """Runs one fleet.

    Args:
        devices: in it.
        rounds: to do.
        processes: that the devices are shared out to.
        max_queued: of Mosquitto; None for its default.
        deadline: of a round, in seconds.
        model: to exchange.
        keep: run directory that stays; a temporary one by default.

    Raises:
        RuntimeError: a process ended with an error, or the run took too long.
    """
    extra = [] if max_queued is None else [f"max_queued_messages {max_queued}"]
    with contextlib.ExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlp-scale-")))
        directory.mkdir(parents=True, exist_ok=True)
        blueprint_file = directory / "blueprint.json"
        blueprint_file.write_bytes(msgspec.json.encode(blueprint(model)))
        broker = stack.enter_context(MosquittoBroker(extra=extra))
        config = directory / "fleet.toml"
        config.write_text(
            CONFIG.format(
                fleet=FLEET, url=broker.url, rounds=rounds, devices=devices, deadline=deadline, model=_toml(model)
            )
        )
        run = directory / "run"
        coordinator = stack.enter_context(
            _process(directory / "coordinator.log", "coordinator", "--config", config, "--out", run, "--quiet")
        )
        resource.prlimit(coordinator.pid, resource.RLIMIT_NOFILE, (COORDINATOR_FILES, COORDINATOR_FILES))
        began = time.time()
        shares = [len(range(part, devices, processes)) for part in range(min(processes, devices))]
        loads = []
        for part, share in enumerate(shares):
            load = Load(broker.host, broker.port, FLEET, sum(shares[:part]), share, str(blueprint_file))
            words = msgspec.json.encode(load).decode()
            loads.append(
                stack.enter_context(_process(directory / f"load-{part}.log", "benchmarks.fleets.load_devices", words))
            )
        others = {"broker": _Watched(broker.pid)}
        others |= {f"load {part}": _Watched(load.pid) for part, load in enumerate(loads)}
        watched = _Watched(coordinator.pid)
        course = _Course(run / "events.jsonl", watched, others)
        _follow(course, coordinator, loads, time.monotonic() + 60 + deadline * (rounds + 1), directory)
        tallies = [
            msgspec.json.decode((directory / f"load-{part}.log").read_bytes().splitlines()[-1], type=Tally)
            for part in range(len(loads))
        ]
        exact = _is_exact(run, devices, rounds)
    return _measured(devices, rounds, max_queued, began, course, watched, others["broker"], tallies, exact, model)


def _measured(
    devices: int,
    rounds: int,
    max_queued: int | None,
    began: float,
    course: _Course,
    coordinator: _Watched,
    broker: _Watched,
    tallies: list[Tally],
    exact: bool,
    model: Model,
) -> Measured:
    times = [event.seconds for event in course.finished]
    repeats = sum(tally.repeats for tally in tallies) / rounds
    uplink = max(tally.broadcast for tally in tallies) / rounds + repeats
    control = sum(tally.control_down + tally.control_up for tally in tallies)
    sent: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for tally in tallies:
        sent.update(tally.sent)
        warnings.update(tally.warnings)
    return Measured(
        devices=devices,
        rounds=rounds,
        max_queued_messages=max_queued,
        ready_s=round((course.opened_at or began) - began, 2),
        round_median_s=round(statistics.median(times), 3),
        round_s=[round(seconds, 3) for seconds in times],
        coordinator_rss_mb=_mb(coordinator.peak),
        coordinator_growth_mb=_mb(course.rss_after[-1] - course.rss_after[0]),
        broker_rss_mb=_mb(broker.peak),
        coordinator_uplink_mb=round(uplink / 1e6, 3),
        framing_percent=round(100 * (uplink / (4 * model.parameters) - 1), 2),
        coordinator_downlink_mb=_mb(sum(event.bytes_up for event in course.finished) / rounds),
        control_bytes=round(control / devices / rounds),
        repeats_mb=round(repeats / 1e6, 3),
        coordinator_cpu_s=round(course.cpu["coordinator"] / rounds, 3),
        broker_cpu_s=round(course.cpu["broker"] / rounds, 3),
        load_cpu_s=round(course.cpu["load"] / rounds, 3),
        contributors=[event.contributors for event in course.finished],
        sent=dict(sorted(sent.items())),
        losses=sum(tally.losses for tally in tallies),
        warnings=dict(warnings),
        exact=exact,
    )


def _toml(model: Model) -> str:
    settings = model.settings
    return (
        f'name = "{settings.name}"\ninput = {list(settings.input)}\n'
        f'classes = {settings.classes}\nhead_mode = "{settings.head_mode}"'
    )


@contextlib.contextmanager
def _process(output: Path, module: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(
    course: _Course,
    coordinator: subprocess.Popen[bytes],
    loads: list[subprocess.Popen[bytes]],
    until: float,
    directory: Path,
) -> None:
    """Watches until all have ended by themselves."""
    running = [coordinator, *loads]
    while any(process.poll() is None for process in running):
        course.look()
        failed = next((process for process in running if process.poll() not in {None, 0}), None)
        if failed is not None or time.monotonic() > until:
            logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in sorted(directory.glob("*.log")))
            what = "took too long" if failed is None else f"process {failed.pid} ended with {failed.returncode}"
            raise RuntimeError(f"{what}:\n{logs}")
        time.sleep(POLL_SECONDS)
    course.look()


def _is_exact(run: Path, devices: int, rounds: int) -> bool:
    """Whether the last checkpoint holds what the constants give on paper."""
    checkpoints = Checkpoints(run / "checkpoints")
    weights, _ = checkpoints.load(0)
    total = sum(samples_of(number) for number in range(devices))
    mean = LayerwiseMean(total)
    for number in range(devices):
        mean.add({"delta": np.full(1, constant_of(number), np.float32)}, samples_of(number))
    step = mean.means()["delta"][0]
    means: dict[str, Array] = {name: np.full(array.shape, step, np.float32) for name, array in weights.items()}
    state = ServerState()
    for _ in range(rounds):
        weights, state = server.apply(ServerSettings(), state, weights, means, frozenset())
    last, _ = checkpoints.load(rounds)
    return all(np.array_equal(last[name], weights[name]) for name in weights)


def table(lines: list[Measured]) -> str:
    """The measurements as Markdown, one row for each."""
    head = [
        "devices",
        "round s",
        "coordinator MB (growth)",
        "broker MB",
        "coordinator sends MB (framing)",
        "coordinator receives MB",
        "control B per device",
        "CPU s coordinator / broker / devices",
    ]
    rows = [
        [
            f"{line.devices:,}",
            f"{line.round_median_s:.2f}",
            f"{line.coordinator_rss_mb:.0f} ({line.coordinator_growth_mb:+.1f})",
            f"{line.broker_rss_mb:.0f}",
            f"{line.coordinator_uplink_mb:.3f} ({line.framing_percent:+.2f} %)",
            f"{line.coordinator_downlink_mb:,.1f}",
            f"{line.control_bytes:,.0f}",
            f"{line.coordinator_cpu_s:.2f} / {line.broker_cpu_s:.2f} / {line.load_cpu_s:.2f}",
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _mb(nbytes: float) -> float:
    return round(nbytes / 1e6, 1)


def raise_file_limit() -> None:
    """Lets this process and those that it starts open as many files as the system allows, up to ``FILES``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="that the devices are shared out to")
    parser.add_argument("--max-queued", type=int, help="max_queued_messages of Mosquitto; its default is 1000")
    parser.add_argument("--deadline", type=float, default=300.0, help="seconds of a round")
    parser.add_argument("--keep", type=Path, help="directory for the runs' files; temporary by default")
    parser.add_argument("--table", action="store_true", help="print a Markdown table at the end")
    options = parser.parse_args()
    raise_file_limit()
    lines = []
    for devices in options.devices:
        line = measure(
            devices,
            rounds=options.rounds,
            processes=options.processes,
            max_queued=options.max_queued,
            deadline=options.deadline,
            keep=options.keep / str(devices) if options.keep else None,
        )
        print(msgspec.json.encode(line).decode(), flush=True)
        lines.append(line)
    if options.table:
        print(table(lines))


if __name__ == "__main__":
    main()
