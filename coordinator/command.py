"""Implements ``fedlp-coordinator``, from a command line to a running coordinator and back to an exit code."""

from __future__ import annotations

import logging
import queue
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from coordinator.config import FleetConfig, load_config
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.run_claim import (
    begins_beside,
    begun_before,
    claim,
    under_its_name,
    unfinished_runs,
    with_weights_digest,
)
from coordinator.service import Coordinator
from coordinator.transfer.messenger import last_will
from fedlp_edge.cli.options_only import OptionsOnly
from fedlp_edge.cli.version import HELP_OPTIONS, Version
from fedlp_edge.config.toml import place
from fedlp_edge.errors import ConfigError, DataError, FedLPError, SettingError, StorageError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_outside, check_source
from fedlp_edge.reporting.events import AnyEvent, RunStopped
from fedlp_edge.reporting.live_view import open_view
from fedlp_edge.reporting.log import EventLog, read_events
from fedlp_edge.reporting.plots import draw_plots
from fedlp_edge.reporting.report import print_report
from fedlp_edge.reporting.summary import load
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.storage.unlearned_runs import has_learned
from fedlp_edge.system.directories import have_temporary_directory
from fedlp_edge.system.lifecycle import (
    EXIT_INCOMPLETE,
    EXIT_STOPPED,
    StopSignal,
    freeze_gc,
    output_may_end,
    own_command,
    print_error,
)
from fedlp_edge.system.log_file import LogFileHandler, plain_log
from fedlp_edge.system.path_hints import explain_paths
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.remembered import remembered_limits
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
log = logging.getLogger("fedlp.coordinator")


@app.command(cls=OptionsOnly, context_settings=HELP_OPTIONS)
def coordinate(
    config: Annotated[Path, typer.Option(help="The fleet's TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Run directory; by default runs/RUN. A run that was stopped there goes on.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Write the log to the terminal as well.")] = False,
    threads: Annotated[int, typer.Option(help="Threads for evaluation and export.", min=1)] = 1,
    hand_out: Annotated[
        bool, typer.Option("--hand-out", help="Hand the models of a finished run to devices that lack them.")
    ] = False,
    version: Version = False,
) -> None:
    """Runs a fleet: waits for devices, does the rounds, exports the model."""
    del version
    fleet = with_weights_digest(load_config(config), config, out)
    unfinished = [] if out else unfinished_runs(fleet)
    before = begun_before(unfinished)
    path = out or before or Path("runs") / fleet.run_name
    beside = "" if before else begins_beside(fleet, unfinished)
    with explain_paths(config):
        _check_data(fleet, config, path)
    directory = RunDirectory.open(path)
    directory.lock()
    have_temporary_directory(directory.path)
    claim(directory, config, fleet, hand_out=hand_out)
    fleet = under_its_name(fleet, directory)
    _configure_log(directory, verbose=verbose)
    if beside and not quiet:
        print(beside, file=sys.stderr)
    try:
        with explain_paths(config):
            finished = _run(fleet, directory, quiet=quiet, threads=threads, hand_out=hand_out)
    except SettingError as error:
        raise ConfigError(f"{place(config, error.key)}: {error}") from None
    if not finished:
        if not quiet:
            again = f"{own_command('fedlp-coordinator')} --config {config}" + (f" --out {out}" if out else "")
            again += " --hand-out" if hand_out else ""
            with output_may_end():
                print(f"Stopped; nothing is lost. Go on with: {again}")
        raise typer.Exit(EXIT_STOPPED)
    if short := load(directory.summary).shortcomings:
        rest = f" and {len(short) - LIMITS.named_devices} more" if len(short) > LIMITS.named_devices else ""
        again = f"{own_command()} status {directory.path}"
        print_error(f"not all was done: {'; '.join(short[: LIMITS.named_devices])}{rest} ({again} says why)")
        raise typer.Exit(EXIT_INCOMPLETE)


def _check_data(fleet: FleetConfig, source: Path, directory: Path) -> None:
    """Checks that the test data are there, before anything is written or loaded.

    Raises:
        ConfigError: The data cannot be used, or the run's files would lie among them.
    """
    if not fleet.data.evaluate:
        return
    try:
        spec = parse_spec(fleet.data.evaluate)
        check_source(spec)
        check_outside(spec, directory, "--out")
    except DataError as error:
        raise ConfigError(f"{place(source, ('data', 'evaluate'))}: {error}") from None


def _run(fleet: FleetConfig, directory: RunDirectory, *, quiet: bool, threads: int, hand_out: bool) -> bool:
    """Runs the fleet, and shows and reports its run unless it is to be quiet; returns whether it is finished."""
    with _emitter(fleet, directory, quiet=quiet) as emit:
        finished = _coordinate(fleet, directory, emit, threads=threads, hand_out=hand_out)
    if finished:
        try:
            draw_plots(load(directory.summary), directory.path)
        except StorageError as error:
            directory.check_present()
            print_error(f"{error}; the run itself is complete")
        if not quiet:
            with output_may_end():
                print_report(directory.path)
    return finished


@contextmanager
def _emitter(fleet: FleetConfig, directory: RunDirectory, *, quiet: bool) -> Iterator[Callable[[AnyEvent], None]]:
    """Opens the log of events and, unless it is to be quiet, the view; yields what hands an event to both."""
    with ExitStack() as stack:
        earlier = [] if quiet else read_events(directory.events)
        events = stack.enter_context(EventLog.open(directory.events))
        view = None if quiet else stack.enter_context(open_view(subtitle=f"{fleet.broker.url} · {directory.path}"))
        if view is not None:
            for event in earlier:
                view.progress.apply(event)

        def emit(event: AnyEvent) -> None:
            events.write(event)
            if view is not None:
                with output_may_end():
                    view.show(event)

        yield emit


def _coordinate(
    fleet: FleetConfig, directory: RunDirectory, emit: Callable[[AnyEvent], None], *, threads: int, hand_out: bool
) -> bool:
    """Puts the coordinator together and runs it; returns whether the run is finished."""
    inbox: queue.SimpleQueue[InboxItem] = queue.SimpleQueue()
    transport = MqttTransport(
        fleet.broker.address(),
        client_id=new_client_id("fedlp", fleet.fleet, "coordinator"),
        will=last_will(Topics(fleet.fleet), fleet.run_name),
        remembered=remembered_limits(),
        # After a power cut the broker may come later; at the first start of a run its address may be wrong.
        patient=has_learned(directory),
    )

    def on_stop() -> None:
        inbox.put(StopRequested())
        transport.cancel_start()

    with StopSignal(on_stop):
        options = WorkerOptions(threads=threads, allow_models=(fleet.model.name, fleet.model.task))
        worker = WorkerProcess(options, inbox.put, directory.worker_log)
        coordinator = Coordinator(
            config=fleet,
            directory=directory,
            inbox=inbox,
            transport=transport,
            worker=worker,
            emit=emit,
        )
        freeze_gc()
        try:
            finished = _run_to_end(coordinator, directory, hand_out=hand_out)
        except SettingError as error:
            log.error("%s", error)  # nothing has begun that could be said to have stopped
            raise
        except FedLPError as error:
            log.error("%s", error)
            with suppress(StorageError):  # where the disk is full, the error itself says so
                emit(RunStopped(time=time.time(), round=coordinator.round, reason="error", detail=str(error)))
            raise
        if not finished:
            emit(RunStopped(time=time.time(), round=coordinator.round, reason="signal"))
    return finished


def _run_to_end(coordinator: Coordinator, directory: RunDirectory, *, hand_out: bool) -> bool:
    """Runs the coordinator; where the disk fails, it may be the directory that is no longer there."""
    try:
        return coordinator.run(hand_out=hand_out)
    except (OSError, StorageError):
        directory.check_present()
        raise


def _configure_log(directory: RunDirectory, *, verbose: bool) -> None:
    handlers: list[logging.Handler] = [LogFileHandler(directory.path / "coordinator.log")]
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    logging.basicConfig(level=logging.INFO, handlers=handlers)
    plain_log("%(asctime)s %(levelname)-7s %(message)s")
