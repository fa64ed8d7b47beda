"""Runs one of the examples: a real fleet over a real broker, and the same model without a fleet to compare it with.

    python examples/run.py activity            the whole example
    python examples/run.py activity --quick    three devices and two rounds, to see that it works

It prepares the data, starts a broker, a coordinator and an agent for each table of ``devices.toml``, all as processes
of their own, waits for the end of the run, answers a few samples with the ONNX file of the deepest exit, and trains the
same model on the data of all devices in one place, and on each device alone. Everything is written below
``runs/examples/NAME``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fedlp_edge import Experiment, FedLPError, Summary, simulate
from fedlp_edge.cli.demo.child_processes import Child, Supervisor, exit_error
from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.reporting.summary import load

EXAMPLES = Path(__file__).resolve().parent
QUICK_DEVICES, QUICK_ROUNDS = 3, 2
BROKER_SECONDS = 30.0
END_SECONDS = 120.0
"""Seconds for the devices to fetch and prove their final model, once the coordinator has ended."""


def main() -> int:
    """Runs the example that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.parent.name for path in EXAMPLES.glob("*/fleet.toml")))
    parser.add_argument("--quick", action="store_true", help="three devices and two rounds")
    parser.add_argument("--out", type=Path, help="directory; by default runs/examples/NAME")
    given = parser.parse_args()
    directory = (given.out or Path("runs") / "examples" / given.name).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    # Paths in the example's files are relative to this directory, and its own modules can be imported.
    os.chdir(directory)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES / given.name), os.environ.get("PYTHONPATH", "")])
    try:
        return run(EXAMPLES / given.name, quick=given.quick)
    except FedLPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return int(error.returncode)


def run(example: Path, *, quick: bool) -> int:
    """Runs an example in the working directory; returns 0 if every device got a proven model."""
    if not Path("data/done").exists():
        call([sys.executable, str(example / "prepare.py"), "data"])
        Path("data/done").touch()
    settings = tomllib.loads((example / "fleet.toml").read_text("utf-8"))
    # Files of the example itself are named by {example}, all others are below the working directory.
    text = (example / "devices.toml").read_text("utf-8").replace("{example}", str(example))
    devices = tomllib.loads(text)
    if quick:
        devices = dict(list(devices.items())[:QUICK_DEVICES])
        settings["rounds"]["count"] = QUICK_ROUNDS
    settings["rounds"]["min_devices"] = len(devices)
    shutil.rmtree("fleet", ignore_errors=True)
    Path("fleet").mkdir()
    code = run_fleet(settings, devices)
    fleet = load(Path("fleet/run/summary.json"))
    answer_samples(fleet)
    compare(settings, devices, fleet)
    return code


def run_fleet(settings: dict[str, Any], devices: dict[str, Any]) -> int:
    """Runs a broker, a coordinator and all agents to the end of the run; returns the coordinator's exit code.

    Raises:
        FedLPError: One of the processes failed.
    """
    kind = "mosquitto" if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists() else "embedded"
    with Supervisor(Path("fleet/logs")) as supervisor:
        broker = ["-m", "fedlp_edge", "broker", "--kind", kind, "--port", "0"]
        url = supervisor.start_and_read_line("broker", command(broker), BROKER_SECONDS)[1].rpartition(" ")[2]
        settings = {**settings, "broker": {"url": url}}
        Path("fleet/fleet.toml").write_text(to_toml(settings), "utf-8")
        coordinator = start(supervisor, "coordinator", ["--config", "fleet/fleet.toml", "--out", "fleet/run"])
        agents = []
        for name, table in devices.items():
            own = {"fleet": settings["fleet"], "id": name, "state": f"fleet/state/{name}", **table}
            path = Path(f"fleet/{name}.toml")
            path.write_text(to_toml({**own, "broker": {"url": url}}), "utf-8")
            agents.append(start(supervisor, name, ["--config", str(path), "--once"]))
        print("(their logs are in fleet/logs; `fedlp status fleet/run` shows how far they are)", flush=True)
        while coordinator.exit_code is None:
            time.sleep(0.5)
            for agent in agents:
                if agent.exit_code:
                    raise exit_error(agent)
        if coordinator.exit_code not in (0, 3):
            raise exit_error(coordinator)
        supervisor.wait(agents, END_SECONDS)
        code = coordinator.exit_code
    call(command(["-m", "fedlp_edge", "status", "fleet/run"]))
    return code


def start(supervisor: Supervisor, name: str, arguments: Sequence[str]) -> Child:
    """Starts the coordinator or an agent, and prints the command as a user would type it."""
    module, program = ("coordinator", "fedlp-coordinator") if name == "coordinator" else ("device_agent", "fedlp-agent")
    print(f"$ {program} {shlex.join(arguments)}", flush=True)
    return supervisor.start(name, command(["-m", module, *arguments]))


def answer_samples(fleet: Summary) -> None:
    """Has the deepest ONNX file answer the samples that the preparation has put aside for it."""
    samples = sorted(Path("data/samples").iterdir()) if Path("data/samples").is_dir() else []
    if not (fleet.onnx and samples):
        return
    deepest = max(fleet.onnx, key=lambda model: model.depth)
    print()
    arguments = ["infer", f"fleet/run/onnx/{deepest.file}", *map(str, samples)]
    print(f"$ fedlp {shlex.join(arguments)}", flush=True)
    call(command(["-m", "fedlp_edge", *arguments]))


def compare(settings: dict[str, Any], devices: dict[str, Any], fleet: Summary) -> None:
    """Trains the same model without a fleet, for as many rounds, and prints what all of them reach on the test data."""
    common: dict[str, Any] = {
        name: settings[name] for name in ("model", "training", "evaluation", "seed") if name in settings
    }
    common["rounds"] = {"count": settings["rounds"]["count"]}
    common["scheme"] = {"depth": "full"}
    common["fleet"] = {"devices": 1}
    common["simulation"] = {"workers": 1}
    sources = {"all data in one place": in_one_place(devices)}
    sources |= {f"{name} alone": table["data"] for name, table in devices.items()}
    summaries = {"the fleet": fleet}
    for name, source in sources.items():
        data = {"train": f"{source}{'&' if '#' in source else '#'}holdout=0", "evaluate": settings["data"]["evaluate"]}
        experiment = msgspec.convert({**common, "name": "compare", "data": data}, Experiment)
        print(f"training on {name} ...", flush=True)
        summaries[name] = simulate(experiment, Path("compare") / f"{name.replace(' ', '-')}-{experiment.identity[:12]}")
    print_comparison({name: final_metrics(summary) for name, summary in summaries.items()})


def in_one_place(devices: dict[str, Any]) -> str:
    """Returns the specification of the data of all devices together, which the preparation has written beside them."""
    name, data = next((name, table["data"]) for name, table in devices.items())
    whole: str = re.sub(rf"data/{re.escape(name)}\b", "data/all", data)
    return whole


def final_metrics(summary: Summary) -> dict[str, float]:
    """Returns the metrics of the deepest exit in the round whose model was exported."""
    number = summary.final.round if summary.final is not None and summary.final.round else summary.rounds[-1].round
    metrics = next(entry.metrics for entry in summary.rounds if entry.round == number)
    return metrics[max(metrics)]


def print_comparison(scores: dict[str, dict[str, float]]) -> None:
    """Prints a table of all metrics, and how far the fleet is from the other two ways."""
    names = [
        name for name in ("accuracy", "macro_f1", "rmse", "mae", "r2") if all(name in row for row in scores.values())
    ]
    alone = {name: [row[name] for of, row in scores.items() if of.endswith(" alone")] for name in names}
    rows = {of: row for of, row in scores.items() if not of.endswith(" alone")}
    rows["each device alone, mean"] = {name: sum(values) / len(values) for name, values in alone.items()}
    width = max(map(len, rows))
    print()
    print(" " * width, *(f"{name:>9}" for name in names))
    for of, row in rows.items():
        print(f"{of:<{width}}", *(f"{row[name]:9.3f}" for name in names))
    for name in names:
        low, high = min(alone[name]), max(alone[name])
        print(f"{name} of the devices alone: {low:.3f} to {high:.3f}")
    Path("figures.json").write_text(json.dumps(scores, indent=2) + "\n", "utf-8")


def command(arguments: Sequence[str]) -> list[str]:
    """Returns a command of this Python."""
    return [sys.executable, *arguments]


def call(arguments: Sequence[str]) -> None:
    """Runs a command to its end.

    Raises:
        CalledProcessError: It failed, and has said why.
    """
    subprocess.run(arguments, check=True)


if __name__ == "__main__":
    sys.exit(main())
