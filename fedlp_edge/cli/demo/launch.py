"""This module implements ``fedlp demo``, which runs a whole fleet on this machine, from the broker to ONNX inference.

It starts the broker, the coordinator and the devices, follows the run to its end, and checks the exported models. Each
of them is a separate process, and they communicate over MQTT alone.
"""

from __future__ import annotations

import datetime
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fedlp_edge.cli.demo.child_processes import Child, Supervisor, exit_error
from fedlp_edge.cli.demo.demo_plan import (
    DemoOptions,
    GivenOptions,
    agent_command,
    broker_command,
    changed_options,
    complete,
    config_text,
    coordinator_command,
    device_id,
    load_options,
    save_options,
)
from fedlp_edge.cli.demo.sample_pictures import classify_samples
from fedlp_edge.errors import ConfigError, DeviceError, ExportError, OperatorError
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.events import RunStopped
from fedlp_edge.reporting.live_view import View, open_view
from fedlp_edge.reporting.log import FILE_NAME, EventReader
from fedlp_edge.reporting.report import ONNX_DIRECTORY, print_report
from fedlp_edge.reporting.summary import Summary, load, load_if_there
from fedlp_edge.system.directories import owner_hint
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE, EXIT_STOPPED, StopSignal, own_command, print_error
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.portable.shell_words import quoted
from fedlp_edge.system.printable import counted
from fedlp_edge.transport.address import BrokerAddress

BROKER_SECONDS = 30.0
"""Seconds for a broker to listen; the first import after an installation compiles every module."""
SHUTDOWN_SECONDS = 30.0
"""Seconds for the devices to fetch their final model and end, once the coordinator has ended."""
POLL_SECONDS = 0.1
_OVER = (0, EXIT_INCOMPLETE)
"""Exit codes of a coordinator whose run is over."""
MAX_RESTARTS = 3
"""Restarts of one killed process; a device that dies of its work again and again must not loop for ever."""


def run_demo(given: GivenOptions, out: Path | None) -> int:
    """Starts the fleet, or goes on with a stopped one, and sees it through.

    Args:
        given: Options of the command line.
        out: Run directory; ``runs/demo-DATE-TIME`` if None.

    Returns:
        Exit code: 0 finished; 3 finished, but without some ONNX files, or a device failed in a round or never
        contributed; 130 stopped by a signal.

    Raises:
        FedLPError: An option is wrong, or a process of the fleet failed.
    """
    console = open_console()
    directory = out or Path("runs") / f"demo-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    options = _options(given, directory)
    with StopSignal() as stop, Supervisor(directory / "logs") as supervisor:
        url = _broker(options, supervisor)
        (directory / "config.toml").write_text(config_text(options, url), encoding="utf-8")
        with open_view(console, subtitle=f"{url} ({options.broker}), {directory}") as view:
            finished = _Demo(options, directory, url, supervisor, view, stop).run()
    if not finished:
        console.print(
            f"Stopped; nothing is lost. Go on with: {own_command()} demo --out {quoted(str(directory))}",
            soft_wrap=True,
        )
        return EXIT_STOPPED
    return _conclude(options, directory, console)


def _options(given: GivenOptions, directory: Path) -> DemoOptions:
    """Returns the options of a new demo, or of the stopped one in ``directory``."""
    known = load_options(directory)
    if known is None:
        options = complete(given)
        parse_partitioner(options.partition)
        if "://" in options.broker:
            BrokerAddress.parse(options.broker)
        _check_packages(options)
        _claim(directory)
        save_options(options, directory)
        return options
    summary = load_if_there(directory / "summary.json")
    if summary is not None and summary.handed_over:
        raise ConfigError(
            f"the run in {directory} is finished ({own_command()} status {directory}); "
            "choose another directory with --out"
        )
    if names := changed_options(given, known):
        raise ConfigError(
            f"the demo in {directory} was begun with another --{names[0]} ({getattr(known, names[0])}); "
            f"leave it out to go on, or choose another directory with --out"
        )
    return known


def _check_packages(options: DemoOptions) -> None:
    """Names all packages that an installation for an agent alone lacks, before one process after the other does so.

    Raises:
        OperatorError: Packages of the broker, the data or the export are missing.
    """
    needed = {"amqtt": options.broker == "embedded", "sklearn": options.data == "digits"}
    needed |= dict.fromkeys(("onnx", "onnxruntime", "PIL"), True)
    missing = [name for name, wanted in needed.items() if wanted and importlib.util.find_spec(name) is None]
    if missing:
        raise OperatorError(f"the demo needs {', '.join(missing)}: {install_command('all')}")


def _claim(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
    except OSError as error:
        hint = f"{owner_hint(directory, error)}choose another directory"
        raise ConfigError(f"--out {directory}: cannot be used: {error.strerror}; {hint}") from None
    if occupied:
        raise ConfigError(f"--out {directory} is not empty and holds no demo; choose another directory")


def _broker(options: DemoOptions, supervisor: Supervisor) -> str:
    """URL of the broker, started if it is ours."""
    if "://" in options.broker:
        return options.broker
    _, line = supervisor.start_and_read_line("broker", broker_command(options), BROKER_SECONDS)
    return line.rpartition(" ")[2]


@dataclass
class _Demo:
    """The supervision of one fleet until its run is over."""

    options: DemoOptions
    directory: Path
    url: str
    supervisor: Supervisor
    view: View
    stop: StopSignal

    def run(self) -> bool:
        """True once the run is over, False if it was stopped."""
        if self.stop.is_set():  # while the broker started
            return False
        reader = EventReader(self.directory / FILE_NAME)
        for event in reader.poll():  # of an earlier start
            self.view.progress.apply(event)
        self.view.note(f"starting a coordinator and {counted(self.options.devices, 'device')}")
        coordinator = self.supervisor.start(
            "coordinator", coordinator_command(self.directory / "config.toml", self.directory)
        )
        agents = [
            self.supervisor.start(device_id(number), agent_command(self.options, number, self.url, self.directory))
            for number in range(self.options.devices)
        ]
        while not self.stop.wait(POLL_SECONDS):
            over = coordinator.exit_code in _OVER
            for event in reader.poll():
                self.view.show(event)
                if isinstance(event, RunStopped) and event.reason == "error":
                    raise DeviceError(event.detail)
            if over:
                for agent in self.supervisor.wait(agents, SHUTDOWN_SECONDS):
                    self.view.note(f"{agent.name} did not end by itself; its log is {agent.log}")
                return True
            for child in self.supervisor.children:
                self._look_after(child)
        return False

    def _look_after(self, child: Child) -> None:
        """Restarts a killed process, as a service manager would; any other end of a process ends the demo."""
        code = child.exit_code
        if code is None or code == 0 or (child.name == "coordinator" and code in _OVER):
            return
        if code > 0 or child.name == "broker" or child.restarts >= MAX_RESTARTS:
            tail = child.tail()
            if tail:
                self.view.note(f"the last lines of {child.log}:\n{tail}")
            raise exit_error(child)
        self.view.note(f"{exit_error(child)}; starting it again")
        self.supervisor.restart(child)


def _conclude(options: DemoOptions, directory: Path, console: Console) -> int:
    """Reports, and runs the ONNX files on held-out pictures as a user of them would; returns the exit code."""
    summary = load(directory / "summary.json")
    print_report(directory, console)
    if not summary.onnx:
        raise ExportError(f"the run wrote no ONNX file; see {directory / 'coordinator.log'}")
    console.print()
    files = [directory / ONNX_DIRECTORY / model.file for model in sorted(summary.onnx, key=lambda model: model.depth)]
    for line in classify_samples(options.data, files, directory / "samples"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return _verdict(summary)


def _verdict(summary: Summary) -> int:
    """Says whether every device took part in every round; returns the exit code."""
    troubled = [device.id for device in summary.devices if device.needs_attention]
    if not troubled:
        return EXIT_INCOMPLETE if summary.refused else 0
    of = f"{len(troubled)} of {counted(len(summary.devices), 'device')}"
    print_error(f"{of} did not contribute to every round ({', '.join(troubled)}); the report above says why")
    return EXIT_INCOMPLETE
