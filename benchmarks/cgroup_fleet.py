"""Six agents, each in a memory control group of its own, learn ResNet-18 on 3x64x64 in batches of 32.

    python -m benchmarks.cgroup_fleet              who gets which depth, and who is killed
    python -m benchmarks.cgroup_fleet --margin -1  plans with twice the memory that there is: kills, and the way back

Limits go from just above what an idle agent with PyTorch takes, where building a torchvision model is too much, to
four times that. Needs Mosquitto, and the right to make control groups.
Prints one JSON line per device, and one of the whole fleet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fedlp_edge.cli.demo.child_processes import Supervisor
from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.memory_group import memory_group, why_not, within

FACTORS = (1.1, 1.7, 1.77, 1.86, 2.0, 4.0)
SAMPLES = 128
SECONDS = 900.0

CONFIG = """\
fleet = "groups"
[model]
name = "torchvision:resnet18"
input = [3, 64, 64]
[training]
batch_size = 32
lr = 0.01
compute = "float32"
[planner]
memory_margin = {margin}
techniques = {techniques}
[data]
evaluate = ""
[rounds]
count = {rounds}
min_devices = {devices}
deadline_seconds = 300
quorum = 0.1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--techniques", nargs="*", default=["allocation"])
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        make_data(directory / "train.npz")
        idle = idle_memory(directory)
        limits = [int(idle * factor) for factor in FACTORS]
        groups = [stack.enter_context(memory_group(f"{number}")) for number in range(len(limits))]
        for group, limit in zip(groups, limits, strict=True):
            group.limit_memory(limit)
        fleet = directory / "fleet.toml"
        techniques = json.dumps(options.techniques)
        text = CONFIG.format(
            margin=options.margin, techniques=techniques, rounds=options.rounds, devices=len(groups) - 1
        )
        fleet.write_text(text)
        seconds = run(directory, fleet, groups)
        report(directory / "run", limits, groups, idle, seconds, options)


def make_data(path: Path) -> None:
    rng = np.random.default_rng(0)
    count = SAMPLES * 5 // 4  # a fifth is held out
    np.savez(path, x=rng.integers(0, 256, (count, 3, 64, 64), dtype=np.uint8), y=np.arange(count) % 10)


def agent(directory: Path, number: int, url: str) -> list[str]:
    return [
        *(sys.executable, "-m", "device_agent", "--broker", url, "--fleet", "groups", "--id", f"dev-{number}"),
        *("--data", f"npz:{directory / 'train.npz'}", "--state", str(directory / f"dev-{number}"), "--device", "cpu"),
        *("--threads", "1", "--once", "--no-calibrate"),
    ]


def idle_memory(directory: Path) -> int:
    """What an agent with its idle worker takes, in a group without a limit."""
    logs = Supervisor(directory / "idle-logs")
    with memory_group("idle") as group, MosquittoBroker() as broker, logs as supervisor:
        child = supervisor.start("idle", within(group, agent(directory, 9, broker.url)))
        before, calm = 0, 0
        while calm < 6:
            time.sleep(1.0)
            used = group.working_set_bytes
            calm = calm + 1 if used > 50_000_000 and abs(used - before) < 2_000_000 else 0
            before = used
        supervisor.stop([child])
    return before


def run(directory: Path, fleet: Path, groups: list[ControlGroup]) -> float:
    """The whole fleet, from its start to its end; seconds."""
    start = time.monotonic()
    with MosquittoBroker() as broker, Supervisor(directory / "logs") as supervisor:
        fleet.write_text(fleet.read_text() + f'[broker]\nurl = "{broker.url}"\n')
        out = str(directory / "run")
        coordinator = supervisor.start(
            "coordinator", [sys.executable, "-m", "coordinator", "--config", str(fleet), "--out", out, "--quiet"]
        )
        for number, group in enumerate(groups):
            supervisor.start(f"dev-{number}", within(group, agent(directory, number, broker.url)))
        supervisor.wait([coordinator], SECONDS)
    return time.monotonic() - start


def report(
    run: Path, limits: list[int], groups: list[ControlGroup], idle: int, seconds: float, options: argparse.Namespace
) -> None:
    happened = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    updates = [event for event in happened if event["event"] == "UpdateAccepted"]
    for number, (limit, group) in enumerate(zip(limits, groups, strict=True)):
        device = f"dev-{number}"
        mine = [event for event in happened if event.get("device") == device]
        joined = [event for event in mine if event["event"] in ("DeviceJoined", "DeviceUnfit")]
        line = {
            "device": device,
            "limit_mb": round(limit / 1e6),
            "times_idle": FACTORS[number],
            "depths": [event.get("depth", 0) for event in joined],
            "kills": group.oom_kills,
            "updates": sum(event["device"] == device for event in updates),
            "peak_mb": round(max((e["peak_memory"] for e in updates if e["device"] == device), default=0) / 1e6),
            "why": joined[-1]["explanation"] if joined else "",
        }
        print(json.dumps(line), flush=True)
    rounds = sum(event["event"] == "RoundFinished" for event in happened)
    kills = sum(group.oom_kills for group in groups)
    whole = {"idle_mb": round(idle / 1e6), "margin": options.margin, "techniques": options.techniques, "rounds": rounds}
    print(json.dumps({**whole, "kills": kills, "seconds": round(seconds)}), flush=True)


if __name__ == "__main__":
    main()
