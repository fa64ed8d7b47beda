"""Runs one of the examples: a real fleet over a real broker, and the same model without a fleet to compare it with.

    python examples/run.py activity            the whole example
    python examples/run.py activity --quick    three devices, two rounds and few samples, to see that it works

It prepares the data, starts a broker, a coordinator and an agent for each table of ``devices.toml``, all as processes
of their own, waits for the end of the run, answers a few samples with the ONNX file of the deepest exit, and trains the
same model on the data of all devices in one place, and on each device alone. Everything is written below
``runs/examples/NAME``. Ctrl-C ends all of it; the same command starts again, and reads comparisons that were finished.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fedlp_edge.system.early_interrupt import end_at_once_on_interrupt

if __name__ == "__main__":
    end_at_once_on_interrupt()  # what follows takes seconds to load

import msgspec

from fedlp_edge import Experiment, FedLPError, Summary, simulate
from fedlp_edge.cli.demo.child_processes import Child, Supervisor, exit_error
from fedlp_edge.config.toml_writer import to_toml
from fedlp_edge.reporting.summary import load
from fedlp_edge.simulation import local_engine
from fedlp_edge.system.lifecycle import run_command

EXAMPLES = Path(__file__).resolve().parent
QUICK_DEVICES, QUICK_ROUNDS = 3, 2
QUICK_SAMPLES, QUICK_TEST_SAMPLES = 60, 100
BROKER_SECONDS = 30.0
END_SECONDS = 120.0
"""Seconds for the devices to fetch and prove their final model, once the coordinator has ended."""
METRICS = ("accuracy", "macro_f1", "rmse", "mae", "r2")
"""Metrics that are printed; the first one that a task has is the one that the fleet is judged by."""
LOWER_IS_BETTER = ("rmse", "mae")
Scores = dict[str, dict[str, float]]
"""Metrics by name, of the fleet, of all data in one place, and of each device alone."""


def main() -> int:
    """Runs the example that the command line names; returns the exit code.

    Raises:
        FedLPError: There is no such example, or one of its processes failed.
    """
    names = sorted(path.parent.name for path in EXAMPLES.glob("*/fleet.toml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="three devices, two rounds, few samples")
    parser.add_argument("--out", type=Path, help="directory; by default runs/examples/NAME")
    given = parser.parse_args()
    if given.name not in names:
        raise FedLPError(f'there is no example "{given.name}": name one of {", ".join(names)}')
    with working_directory(given.out or Path("runs") / "examples" / given.name):
        # Paths in the example's files are relative to this directory, and its own modules can be imported.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES / given.name), os.environ.get("PYTHONPATH", "")])
        try:
            return run(EXAMPLES / given.name, quick=given.quick)
        except subprocess.CalledProcessError as error:  # it has said why
            return int(error.returncode)


@contextlib.contextmanager
def working_directory(directory: Path) -> Iterator[None]:
    """Makes a directory the working directory, for this process alone.

    Raises:
        FedLPError: It cannot be written to, or another process runs an example there.
    """
    called, directory = directory, directory.resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("a")
    except OSError as error:
        raise FedLPError(f"{directory} cannot be written to ({error.strerror}); name another one with --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FedLPError(f"an example is running in {directory}: wait for its end, or name another --out") from None
        print(f"$ cd {shlex.quote(str(called))}", flush=True)  # what is printed from here on goes by this directory
        os.chdir(directory)
        yield


def run(example: Path, *, quick: bool) -> int:
    """Runs an example in the working directory; returns 0 if every device got a proven model."""
    started = time.monotonic()
    prepare(example)
    settings = tomllib.loads((example / "fleet.toml").read_text("utf-8"))
    devices = tomllib.loads((example / "devices.toml").read_text("utf-8"))
    if quick:
        devices = dict(list(devices.items())[:QUICK_DEVICES])
        settings["rounds"]["count"] = QUICK_ROUNDS
        settings["data"]["evaluate"] = with_option(settings["data"]["evaluate"], f"limit={QUICK_TEST_SAMPLES}")
    for table in devices.values():
        # Files of the example itself are named by {example}, all others are below the working directory.
        if "profile" in table:
            table["profile"] = table["profile"].replace("{example}", str(example))
        if quick:
            table["data"] = with_option(table["data"], f"limit={QUICK_SAMPLES}")
    settings["rounds"]["min_devices"] = len(devices)
    shutil.rmtree("fleet", ignore_errors=True)
    Path("fleet").mkdir()
    code = run_fleet(settings, devices)
    fleet = load(Path("fleet/run/summary.json"))
    answer_samples(example, fleet)
    scores = compare(settings, devices, fleet, alone=1 if quick else len(devices))
    Path("figures.json").write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    print_comparison(scores)
    if quick:
        print("That it works is all that a short form shows; so few samples and rounds say nothing about the model.")
    else:
        print_distances(scores)
    print(f"All of it took {(time.monotonic() - started) / 60:.1f} minutes.")
    return code


def prepare(example: Path) -> None:
    """Prepares the data, unless that was done before by the same files of the example."""
    files = sorted(path for path in example.iterdir() if path.suffix in (".py", ".toml", ".txt"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    done = Path("data/done")
    if done.is_file() and done.read_text("utf-8") == digest:
        return
    for old in ("data", "compare"):
        shutil.rmtree(old, ignore_errors=True)
    call([sys.executable, str(example / "prepare.py"), "data"])
    done.write_text(digest, "utf-8")


def with_option(specification: str, option: str) -> str:
    """Adds an option to a data specification."""
    return f"{specification}{'&' if '#' in specification else '#'}{option}"


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
        for late in supervisor.wait(agents, END_SECONDS):
            print(f"warning: {late.name} has not ended after {END_SECONDS:.0f} s (log: {late.log})", flush=True)
        code = coordinator.exit_code
    call(command(["-m", "fedlp_edge", "status", "fleet/run"]))
    return code


def start(supervisor: Supervisor, name: str, arguments: Sequence[str]) -> Child:
    """Starts the coordinator or an agent, and prints the command as a user would type it."""
    module, program = ("coordinator", "fedlp-coordinator") if name == "coordinator" else ("device_agent", "fedlp-agent")
    print(f"$ {program} {shlex.join(arguments)}", flush=True)
    return supervisor.start(name, command(["-m", module, *arguments]))


def answer_samples(example: Path, fleet: Summary) -> None:
    """Has the deepest ONNX file answer the samples that the preparation has put aside for it.

    An example whose samples are no numbers yet has an ``encode.py``, which writes a line of them for each.
    """
    samples = [str(path) for path in sorted(Path("data/samples").iterdir())]
    if not fleet.onnx:
        return
    model = max(fleet.onnx, key=lambda file: file.depth)
    encode = example / "encode.py"
    arguments = ["infer", f"fleet/run/onnx/{model.file}", *(["-"] if encode.exists() else samples)]
    encoding = [str(encode), *samples]
    print("\nThe deepest file answers samples that no device has seen:")
    if encode.exists():
        print(f"$ python {shlex.join(encoding)} | fedlp {shlex.join(arguments)}", flush=True)
        numbers = subprocess.run(command(encoding), check=True, start_new_session=True, stdout=subprocess.PIPE).stdout
    else:
        print(f"$ fedlp {shlex.join(arguments)}", flush=True)
        numbers = None
    call(command(["-m", "fedlp_edge", *arguments]), numbers)


def compare(settings: dict[str, Any], devices: dict[str, Any], fleet: Summary, alone: int) -> Scores:
    """Trains the same model without a fleet, for as many rounds; returns what all of them reach on the test data.

    Args:
        settings: Contents of ``fleet.toml``.
        devices: Table of each device.
        fleet: Summary of the fleet's run.
        alone: Number of devices that are trained on alone, the last ones.
    """
    common: dict[str, Any] = {
        name: settings[name] for name in ("model", "training", "evaluation", "seed") if name in settings
    }
    common["rounds"] = {"count": settings["rounds"]["count"]}
    common["scheme"] = {"depth": "full"}
    common["fleet"] = {"devices": 1}
    common["simulation"] = {"workers": 1}
    sources = {"all data in one place": in_one_place(devices)}
    sources |= {f"{name} alone": table["data"] for name, table in list(devices.items())[-alone:]}
    summaries = {"the fleet": fleet}
    print()
    with local_engine(1) as engine:
        for name, source in sources.items():
            data = {"train": with_option(source, "holdout=0"), "evaluate": settings["data"]["evaluate"]}
            experiment = msgspec.convert({**common, "name": "compare", "data": data}, Experiment)
            print(f"training on {name} ...", flush=True)
            directory = f"{name.replace(' ', '-')}-{experiment.rounds.count}-{experiment.identity[:12]}"
            summaries[name] = simulate(experiment, Path("compare") / directory, engine=engine)
    return {name: final_metrics(summary) for name, summary in summaries.items()}


def in_one_place(devices: dict[str, Any]) -> str:
    """Returns the specification of the data of all devices together, which the preparation has written beside them."""
    name, data = next((name, table["data"]) for name, table in devices.items())
    whole = re.sub(rf"data/{re.escape(name)}\b", "data/all", data)
    return re.sub(r"\blimit=(\d+)", lambda limit: f"limit={int(limit[1]) * len(devices)}", whole)


def final_metrics(summary: Summary) -> dict[str, float]:
    """Returns the metrics of the deepest exit in the round whose model was exported."""
    number = summary.final.round if summary.final is not None and summary.final.round else summary.rounds[-1].round
    metrics = next(entry.metrics for entry in summary.rounds if entry.round == number)
    return metrics[max(metrics)]


def print_comparison(scores: Scores) -> None:
    """Prints a table of all metrics."""
    names = [name for name in METRICS if all(name in row for row in scores.values())]
    rows = {of: row for of, row in scores.items() if not of.endswith(" alone")}
    alone = {name: alone_by(scores, name) for name in names}
    rows["each device alone, mean"] = {name: mean(values) for name, values in alone.items()}
    rows["each device alone, best"] = {name: values[-1] for name, values in alone.items()}
    rows["each device alone, worst"] = {name: values[0] for name, values in alone.items()}
    width = max(map(len, rows))
    print()
    print(" " * width, *(f"{name:>9}" for name in names))
    for of, row in rows.items():
        print(f"{of:<{width}}", *(f"{row[name]:9.3f}" for name in names))
    print()


def print_distances(scores: Scores) -> None:
    """Says how far the fleet is above its devices alone, and how far from all data in one place."""
    metric = next(name for name in METRICS if all(name in row for row in scores.values()))
    fleet, one_place = scores["the fleet"][metric], scores["all data in one place"][metric]

    def than(other: float) -> str:
        better = fleet <= other if metric in LOWER_IS_BETTER else fleet >= other
        return f"{abs(fleet - other):.3f} {'better' if better else 'worse'} than"

    alone = mean(alone_by(scores, metric))
    print(f"By {metric} the fleet is {than(alone)} its devices alone, and {than(one_place)} all data in one place.")


def alone_by(scores: Scores, metric: str) -> list[float]:
    """Returns what each device reaches alone by a metric, the worst first."""
    values = [row[metric] for of, row in scores.items() if of.endswith(" alone")]
    return sorted(values, reverse=metric in LOWER_IS_BETTER)


def command(arguments: Sequence[str]) -> list[str]:
    """Returns a command of this Python."""
    return [sys.executable, *arguments]


def call(arguments: Sequence[str], given: bytes | None = None) -> None:
    """Runs a command to its end, with what it is given on its standard input.

    Raises:
        CalledProcessError: It failed, and has said why.
    """
    # In a session of its own it does not get Ctrl-C, and is ended with this process instead of telling of it by itself.
    subprocess.run(arguments, check=True, start_new_session=True, input=given)


if __name__ == "__main__":
    sys.exit(run_command(main))
