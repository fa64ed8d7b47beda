"""This module implements ``fedlp status``, which reports a run directory, finished or still running."""

from __future__ import annotations

import time
from pathlib import Path

from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.reporting.console import open_console, print_unwrapped
from fedlp_edge.reporting.live_view import picture, serving_table
from fedlp_edge.reporting.log import FILE_NAME, read_events
from fedlp_edge.reporting.progress import RunProgress
from fedlp_edge.reporting.report import print_report
from fedlp_edge.reporting.summary import load
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.path_hints import newest_run, run_hint, shown_path

_RUNS = Path("runs")
"""Directory in which coordinator, simulation and demo make their runs, unless told otherwise."""

_BROKERS = ("mqtt:", "mqtts:", "ws:", "wss:")
"""First parts of a broker's URL that was taken for a path."""


def newest_run_here() -> Path:
    """Returns the run below ``runs`` that was written to last.

    Raises:
        StorageError: There is none.
    """
    found = newest_run(_RUNS)
    if found is None:
        raise StorageError(f"there is no run in {shown_path(_RUNS)}; name the directory of one")
    return found


def run_status(run: Path) -> int:
    """Prints the final report of a finished run, or the progress of an unfinished one.

    Raises:
        ConfigError: It is the URL of a broker.
        StorageError: The directory holds no run.
    """
    if run.parts and run.parts[0] in _BROKERS:
        raise ConfigError("status takes the directory of a run; who is at a broker is listed by fedlp fleet URL")
    console = open_console()
    summary = load(run / "summary.json") if (run / "summary.json").exists() else None
    events = read_events(run / FILE_NAME)
    if summary is None and not events:
        raise StorageError(f"{run} holds no run (neither summary.json nor {FILE_NAME}){run_hint(run)}")
    progress = RunProgress()
    for event in events:
        progress.apply(event)
    if summary is not None and summary.final is not None:
        print_report(run, console)
        if (serving := serving_table(progress.devices.values())) is not None:
            console.print()
            print_unwrapped(console, serving)
        return 0
    if not progress.is_over and not RunDirectory(run).is_locked:
        progress.end_without_a_word()
    print_unwrapped(console, picture(progress, time.time(), console.height, str(run)))
    return 0
