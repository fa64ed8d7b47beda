"""This module implements ``fedlp simulate``, which runs a virtual fleet and shows it like a real one."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from fedlp_edge.config.toml import place
from fedlp_edge.errors import ConfigError, FreezeError, StartWeightsError
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.events import AnyEvent, DeviceJoined, RunStopped
from fedlp_edge.reporting.live_view import View, open_view
from fedlp_edge.reporting.plots import draw_plots
from fedlp_edge.reporting.report import print_report
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.simulation.experiment import EngineName, Experiment, load_experiment
from fedlp_edge.simulation.run import simulate, with_weights_digest
from fedlp_edge.system.directories import working_directory
from fedlp_edge.system.lifecycle import EXIT_STOPPED, StopSignal, own_command
from fedlp_edge.system.portable.shell_words import quoted

MAX_LISTED_DEVICES = 20
"""Number of devices above which a log does not list them one by one."""


def run_simulate(
    file: Path, out: Path | None, engine: EngineName | None, workers: int | None, *, quiet: bool, as_json: bool
) -> int:
    """Runs an experiment, or continues it.

    Args:
        file: The experiment.
        out: Run directory; ``runs/RUN`` if None.
        engine: Engine that replaces the experiment's; None keeps it.
        workers: Number of workers that replaces the experiment's; None keeps it.
        quiet: Show nothing but errors.
        as_json: One JSON object at the end instead of everything else.

    Returns:
        Exit code: 0 finished, 130 stopped by a signal.

    Raises:
        FedLPError: The experiment cannot be run.
    """
    sys.path.append(working_directory())  # where the owner's own data functions are; shadows nothing
    experiment = _with(load_experiment(file), engine, workers)
    try:
        experiment = with_weights_digest(experiment, out)
    except StartWeightsError as error:
        raise ConfigError(f"{place(file, ('model', 'weights'))}: {error}") from None
    directory = out or Path("runs") / experiment.run_name
    console = open_console()
    view = None if quiet or as_json else open_view(console, subtitle=str(directory))
    try:
        with StopSignal() as stop:
            if view is None:
                summary = simulate(experiment, directory, stopped=stop.is_set)
            else:
                with view:
                    crowded = experiment.fleet.devices > MAX_LISTED_DEVICES and not console.is_terminal
                    summary = simulate(
                        experiment, directory, on_event=lambda event: _show(view, event, crowded), stopped=stop.is_set
                    )
    except FreezeError as error:
        raise ConfigError(f"{place(file, ('model', 'freeze'))}: {error}") from None
    except StartWeightsError as error:
        raise ConfigError(f"{place(file, ('model', 'weights'))}: {error}") from None
    except SimulationStoppedError:
        again = f"{own_command()} simulate {quoted(str(file))}"
        again += f" --out {quoted(str(out))}" if out else ""
        print(f"Stopped; nothing is lost. Go on with: {again}", file=sys.stderr)
        return EXIT_STOPPED
    draw_plots(summary, directory)
    if as_json:
        print(_as_json(summary, directory))
    elif not quiet:
        print_report(directory, console)
    return 0


def _with(experiment: Experiment, engine: EngineName | None, workers: int | None) -> Experiment:
    """The experiment with what the command line says of its computation."""
    settings = experiment.simulation
    changed = msgspec.structs.replace(
        settings,
        engine=settings.engine if engine is None else engine,
        workers=settings.workers if workers is None else workers,
    )
    return msgspec.structs.replace(experiment, simulation=changed)


def _show(view: View, event: AnyEvent, crowded: bool) -> None:
    # What is wrong before there is a round to go on from is said once, as the command's error.
    refused = isinstance(event, RunStopped) and event.reason == "error" and event.round == 1
    if refused or (crowded and isinstance(event, DeviceJoined)):
        view.progress.apply(event)
    else:
        view.show(event)


def _as_json(summary: Summary, directory: Path) -> str:
    last = summary.rounds[-1]
    said = {
        "run": summary.run,
        "directory": str(directory),
        "rounds": len(summary.rounds),
        "seconds": sum(entry.seconds for entry in summary.rounds),
        "accuracy": last.accuracy,
        "answer": last.answer,
        "exits": last.exits,
        "ensemble": last.ensemble,
        "tiers": last.tiers,
        "model_digest": summary.final.model_digest if summary.final else None,
    }
    return msgspec.json.encode(said).decode()
