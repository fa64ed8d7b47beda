"""Seconds a round of a whole fleet that trains nothing, beside the floors of plain TCP and of bare MQTT.

The coordinator is the real process; the devices are real agents in processes of their own, with a stand-in for the
worker (``fleets/stand_in.py``). The floors (``fleets/floors.py``) run right before and right after, on the same machine
and a broker of the same kind. One JSON line is printed; all figures are described in README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.fleets.models import MODELS, blueprint
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.reporting.events import RoundFinished, RoundStarted
from fedlp_edge.reporting.log import read_events
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.brokers.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 120.0
MOST_APART = 0.2
"""Share by which the floors before and after a fleet may differ; a machine that is less steady allows no judgement."""

NOTHING = 0.05
"""Share of a fleet's round that no judgement depends on: with a small model plain TCP takes two milliseconds, which may
well be one or three, where a round takes seventy."""
FLOOR_ROUNDS = 5

CONFIG = """
fleet = "bench"
[broker]
url = "{url}"
[model]
name = "{model.name}"
input = {input}
classes = {model.classes}
head_mode = "{model.head_mode}"
[data]
evaluate = ""
[export]
depths = "none"
[scheme]
depth = "full"
[update]
{update}
[rounds]
count = {rounds}
min_devices = {devices}
quorum = 1.0
deadline_seconds = 300
keep_checkpoints = 2
"""


class Processes:
    """Processes of one measurement, by role; none outlives it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.by_role: dict[str, list[subprocess.Popen[str]]] = {}

    def start(self, role: str, *arguments: str, piped: bool = False) -> subprocess.Popen[str]:
        """Runs Python with these arguments at the top of the repository."""
        with (self._directory / f"{role}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )
        self.by_role.setdefault(role, []).append(process)
        return process

    def stop(self) -> None:
        """Ends what still runs."""
        running = [process for processes in self.by_role.values() for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def logs(self) -> str:
        """The end of every log, for the message of a failure."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in self._directory.glob("*.log"))


@contextlib.contextmanager
def processes(directory: Path) -> Iterator[Processes]:
    started = Processes(directory)
    try:
        yield started
    finally:
        started.stop()


@contextlib.contextmanager
def broker(kind: str, directory: Path, *, unlimited: bool) -> Iterator[tuple[str, list[int]]]:
    """A broker's URL and process ids.

    Args:
        kind: ``mosquitto`` or ``embedded``.
        directory: for its log.
        unlimited: whether it queues without limit; Mosquitto's own default is 1,000 messages a client.
    """
    if kind == "mosquitto":
        with MosquittoBroker(extra=["max_queued_messages 0"] if unlimited else []) as mosquitto:
            yield mosquitto.url, [mosquitto.pid]
        return
    with processes(directory) as started:
        process = started.start("broker", "-m", "fedlp_edge.transport.brokers.embedded", "--port", "0", piped=True)
        line = process.stdout.readline() if process.stdout else ""
        yield line.split()[-1], [process.pid]


class Floor(msgspec.Struct, frozen=True):
    """A bare exchange.

    Attributes:
        seconds: Seconds of every round but the first.
        cpu_s: Processor time of a round, of server and clients together.
    """

    seconds: list[float]
    cpu_s: float


def floor(kind: str, url: str, elements: int, devices: int, directory: Path) -> Floor:
    """Runs a bare exchange."""
    common = [kind, url, str(elements), str(devices), str(FLOOR_ROUNDS + 1)]
    with processes(directory) as started:
        server = started.start("floor-server", "-m", "benchmarks.fleets.floors", "server", *common, "0", piped=True)
        clients = [
            started.start("floor-client", "-m", "benchmarks.fleets.floors", "client", *common, str(number), piped=True)
            for number in range(devices)
        ]
        try:
            said = [json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0]) for process in (server, *clients)]
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the {kind} floor did not end; {started.logs()}") from None
    return Floor(said[0]["seconds"][1:], sum(one["cpu_s"] for one in said) / FLOOR_ROUNDS)


def fleet(options: argparse.Namespace, model_blueprint: Blueprint, directory: Path) -> dict[str, object]:
    """Runs the real fleet; its figures but the floors."""
    path = directory / "blueprint.json"
    path.write_bytes(msgspec.json.encode(model_blueprint))
    with broker(options.broker, directory, unlimited=False) as (url, broker_pids), processes(directory) as started:
        config = directory / "fleet.toml"
        settings = MODELS[options.model].settings
        update = f'encoding = "{options.encoding}"\nbroadcast = "{options.broadcast}"'
        words = {"url": url, "model": settings, "input": list(settings.input), "update": update}
        config.write_text(CONFIG.format(**words, rounds=options.rounds, devices=options.devices))
        run = directory / "run"
        arguments = ("--config", str(config), "--out", str(run), "--quiet")
        coordinator = started.start("coordinator", "-m", "coordinator", *arguments)
        for number in range(options.devices):
            state = str(directory / f"device-{number}")
            started.start("agents", "-m", "benchmarks.fleets.stand_in", url, "bench", str(number), str(path), state)
        meter = Meter({"broker": broker_pids} | {role: [p.pid for p in ps] for role, ps in started.by_role.items()})
        until = time.monotonic() + PATIENCE_SECONDS
        while coordinator.poll() is None and time.monotonic() < until:
            meter.look(run / "events.jsonl")
            time.sleep(0.05)
        if coordinator.poll() != 0:
            raise SystemExit(f"the fleet did not end; {started.logs()}")
    return {**round_seconds(run), **meter.figures()}


def round_seconds(run: Path) -> dict[str, object]:
    """From the end of one round to the end of the next, so that nothing between rounds is left out."""
    ends = [event.time for event in read_events(run / "events.jsonl") if isinstance(event, RoundFinished)]
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    return {"round_median_s": round(statistics.median(seconds), 4), "round_s": [round(s, 4) for s in seconds]}


class Meter:
    """Peaks of resident memory by role, and the bytes that crossed loopback in each round."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self._pids = pids
        self._peaks: dict[int, int] = {}
        self._cpu: dict[int, dict[int, float]] = {}
        self._loopback: dict[int, int] = {}

    def look(self, events: Path) -> None:
        """Takes a reading; the peaks are the kernel's own, so nothing is missed in between."""
        cpu: dict[int, float] = {}
        for pid in (pid for pids in self._pids.values() for pid in pids):
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                self._peaks[pid] = int(status.split("VmHWM:")[1].split()[0]) * 1024
                cpu[pid] = cpu_seconds(pid)
        if events.exists():
            began = sum(isinstance(event, RoundStarted) for event in read_events(events))
            self._loopback.setdefault(began, loopback_bytes())
            self._cpu.setdefault(began, cpu)

    def figures(self) -> dict[str, object]:
        """Of memory, processor time (``cpu_s`` is the sum) and loopback: means of the full rounds seen."""
        memory = {role: round(sum(self._peaks.get(p, 0) for p in ps) / 1e6) for role, ps in self._pids.items()}
        first, last = min(n for n in self._loopback if n), max(self._loopback)
        rounds = max(1, last - first)
        crossed = (self._loopback[last] - self._loopback[first]) / rounds
        before, after = self._cpu[first], self._cpu[last]
        cpu = {
            role: round(sum(after.get(p, 0.0) - before.get(p, 0.0) for p in ps) / rounds, 3)
            for role, ps in self._pids.items()
        }
        total = round(sum(cpu.values()), 3)
        return {
            "loopback_mb_per_round": round(crossed / 1e6, 1),
            "rss_mb": memory,
            "cpu_s_per_round": cpu,
            "cpu_s": total,
        }


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken: unlike seconds of a round, it says the same on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loopback_bytes() -> int:
    """Bytes received on the loopback device since the machine started."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    raise SystemExit("there is no loopback device")


def judged(seconds: float, cpu: float, floors: Mapping[str, Sequence[Floor]]) -> dict[str, object]:
    """The floors, and how a round compares with that of MQTT; no comparison where the machine was not steady.

    Processor time says nearly the same on a busy machine, so it is compared in any case.

    Args:
        seconds: Of the fleet's round.
        cpu: Processor time of the fleet's round, of coordinator and agents, in seconds.
        floors: What was measured, by kind; empty if there was nothing.
    """
    said: dict[str, object] = {}
    apart = 0.0
    for kind, measured in floors.items():
        if not measured:
            continue
        medians = [statistics.median(one.seconds) for one in measured]
        every = itertools.chain.from_iterable(one.seconds for one in measured)
        said[f"{kind}_floor_s"] = round(statistics.median(every), 4)
        said[f"{kind}_floor_cpu_s"] = [round(one.cpu_s, 4) for one in measured]
        said[f"{kind}_floors_s"] = [round(median, 4) for median in medians]
        if max(medians) - min(medians) > NOTHING * seconds:
            apart = max(apart, max(medians) / min(medians) - 1)
    if floors.get("mqtt"):
        bare = statistics.fmean(one.cpu_s for one in floors["mqtt"])
        said["cpu_ratio_to_mqtt_floor"] = round(cpu / bare, 3)
    if apart > MOST_APART:
        said["not_judged"] = f"the floors before and after differ by {apart:.0%}: run this again on a quieter machine"
    elif floors.get("mqtt"):
        said["ratio_to_mqtt_floor"] = round(seconds / float(str(said["mqtt_floor_s"])), 3)
    return said


def machine() -> dict[str, object]:
    """What a figure must be read with: processor, kernel, and the versions of what moves bytes."""
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("paho-mqtt", "msgspec", "numpy", "blake3", "zstandard")},
    }


def main() -> None:
    """Measures floors, fleet, floors again, and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--model", choices=sorted(MODELS), default="small")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--broker", choices=("mosquitto", "embedded"), default="mosquitto")
    parser.add_argument("--encoding", default="none", help="of the updates; see docs/configuration.md")
    parser.add_argument("--broadcast", default="none", help="encoding of the model; see docs/configuration.md")
    parser.add_argument("--directory", type=Path, help="for everything written; by default removed at the end")
    parser.add_argument("--no-floors", action="store_true", help="measure the fleet alone")
    options = parser.parse_args()
    model_blueprint = blueprint(MODELS[options.model])
    elements = sum(unit.nbytes for unit in model_blueprint.global_units) // 4
    floors: dict[str, list[Floor]] = {"tcp": [], "mqtt": []}

    with contextlib.ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlp-bench-")))
        directory.mkdir(parents=True, exist_ok=True)

        def measure_floors() -> None:
            if options.no_floors:
                return
            floors["tcp"].append(floor("tcp", f"tcp://127.0.0.1:{free_port()}", elements, options.devices, directory))
            with broker(options.broker, directory, unlimited=True) as (url, _):
                floors["mqtt"].append(floor("mqtt", url, elements, options.devices, directory))

        measure_floors()
        figures = fleet(options, model_blueprint, directory)
        measure_floors()

    about = {"model": options.model, "devices": options.devices, "broker": options.broker, "encoding": options.encoding}
    about["broadcast"] = options.broadcast
    cpu = figures["cpu_s_per_round"]
    worked = cpu["coordinator"] + cpu["agents"] if isinstance(cpu, dict) else 0.0
    compared = judged(float(str(figures["round_median_s"])), worked, floors)
    print(json.dumps({**about, **machine(), **figures, **compared}))


if __name__ == "__main__":
    main()
