"""Implements ``fedlp-agent``, from a command line to a running agent and back to an exit code."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from device_agent.config import AgentConfig, load_config, new_session
from device_agent.installation.version_store import CURRENT
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.cli.options_only import OptionsOnly
from fedlp_edge.cli.version import HELP_OPTIONS, Version
from fedlp_edge.errors import ConfigError, NoCoordinatorError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_outside, check_source
from fedlp_edge.probe.calibrations import find_calibration
from fedlp_edge.probe.confinement import Confinement, bounds_of
from fedlp_edge.probe.host import probe_host, training_threads, worker_share
from fedlp_edge.probe.neighbours import other_agents
from fedlp_edge.probe.profiles import find_profile
from fedlp_edge.system.directories import expand_user, have_temporary_directory, make_directory
from fedlp_edge.system.lifecycle import EXIT_NO_COORDINATOR, EXIT_STOPPED, StopSignal, freeze_gc, print_error
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.log_file import plain_log
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.system.path_hints import explain_paths
from fedlp_edge.system.processor_info import torch_warning
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.remembered import remembered_limits
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(cls=OptionsOnly, context_settings=HELP_OPTIONS)
def agent(
    *,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="mqtt://HOST[:PORT], mqtts://, ws:// or wss://; the login comes from the environment"
        ),
    ] = None,
    fleet: Annotated[str | None, typer.Option(metavar="NAME", help="fleet to join")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="training data: digits, imagefolder:DIR, npz:FILE, ...")
    ] = None,
    id: Annotated[
        str | None, typer.Option(metavar="NAME", help="of this device in the fleet [default: the host's name]")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="caps on what training may take; see docs/profiles.md")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="processor to train on")] = None,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="where this agent keeps its state")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="threads for training")] = None,
    allow_model: Annotated[
        list[str] | None, typer.Option(metavar="MODULE:CALLABLE", help="model code this device may run; repeatable")
    ] = None,
    root: Annotated[
        str | None, typer.Option(metavar="FILE", help="root of trust; from then on nothing unsigned is installed")
    ] = None,
    once: Annotated[bool | None, typer.Option("--once", help="end when the run is over")] = None,
    wait: Annotated[
        str | None, typer.Option(metavar="TIME", help="with --once: end after 5m (90, 1h) without a coordinator")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="agent.toml with these settings and the [broker] login")
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option("--calibrate/--no-calibrate", help="find out once what this machine adds to what training takes"),
    ] = None,
    report_metrics: Annotated[
        bool | None,
        typer.Option(
            "--report-metrics/--no-report-metrics",
            help="tell the coordinator how well the model does on samples that are held out here",
        ),
    ] = None,
    keep_models: Annotated[
        int | None, typer.Option(metavar="N", help="versions of the model that stay on the disk [default: 2]")
    ] = None,
    verbose: Annotated[bool | None, typer.Option("--verbose", help="log more")] = None,
    version: Version = False,
) -> None:
    """Takes part in a fleet: trains on this device's data and keeps them here."""
    del version
    given = {
        "broker": broker,
        "fleet": fleet,
        "data": data,
        "id": id,
        "profile": profile,
        "device": device,
        "state": None if state is None else str(state),
        "threads": threads,
        "allow_models": allow_model or None,
        "root": root,
        "once": once,
        "wait": wait,
        "calibrate": calibrate,
        "report_metrics": report_metrics,
        "keep_models": keep_models,
        "verbose": verbose,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    with explain_paths(config):
        raise typer.Exit(serve(load_config(config, overrides)))


def serve(config: AgentConfig) -> int:
    """Runs an agent until it is told to stop, its run is over, or nobody is there for as long as it is to wait.

    Returns:
        The exit code of the process.

    Raises:
        FedLPError: Whatever it cannot mend by itself.
    """
    logging.basicConfig(level=logging.DEBUG if config.verbose else logging.INFO)
    plain_log("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    _check_places(config)
    if config.name_warning:
        logging.warning("%s", config.name_warning)
    root = root_of_trust(config.root)
    identity = Identity(Topics(str(config.fleet)), config.device_id, new_session())
    profile, host = find_profile(config.profile), probe_host()
    if warning := torch_warning():
        logging.warning("%s", warning)
    others = other_agents()
    threads = training_threads(config.threads, profile, host.cores, others)
    logging.info("%s", _threads_text(threads, host.cores, others))
    options = WorkerOptions(
        threads=threads,
        device=config.device,
        memory_bytes=profile.training_memory,
        process_bytes=worker_share(host, profile),
        allow_models=config.allow_models,
    )
    calibrates = config.calibrate and profile.calibrate
    settings = AgentSettings(
        identity=identity,
        data=str(config.data),
        state=config.state_dir,
        profile=profile,
        threads=threads,
        allow_models=frozenset(config.allow_models),
        root=root,
        once=config.once,
        wait_seconds=config.wait_seconds,
        calibration=find_calibration(host, options, cache_directory("calibration")) if calibrates else None,
        report_metrics=config.report_metrics,
        keep_models=config.keep_models,
        serving=config.serve.options(config.state_dir / "models" / CURRENT, config.broker),
    )
    with Confinement(bounds_of(profile, host, threads)) as confinement:
        if confinement.worker is not None:
            options = msgspec.structs.replace(options, memory_group=str(confinement.worker.directory))
        return _take_part(config, settings, options)


def _check_places(config: AgentConfig) -> None:
    """Checks the data, and makes the directory of the state, before anything is measured or loaded.

    Raises:
        DataError: The data cannot be used, or the state would lie among them.
        StorageError: The directory of the state cannot be made or written to.
    """
    spec = parse_spec(str(config.data))
    check_source(spec)
    check_outside(spec, config.state_dir, "--state")
    have_temporary_directory(make_directory(config.state_dir))


def _take_part(config: AgentConfig, settings: AgentSettings, options: WorkerOptions) -> int:
    """Runs the agent; returns the exit code of the process."""
    identity, address = settings.identity, config.broker.address()
    will = LastWill(identity.topics.of("device", identity.device), encode(status(identity, None)))
    client_id = new_client_id("fedlp", str(config.fleet), identity.device)
    transport = MqttTransport(address, client_id, will, remembered_limits(), patient=True)
    member = Agent.open(settings, transport, functools.partial(WorkerProcess, options))
    logging.info("device %s joins fleet %s at %s", identity.device, config.fleet, address.url)
    freeze_gc()

    def on_stop() -> None:
        member.stop()
        transport.cancel_start()

    with StopSignal(on_stop) as stop:
        try:
            ended = member.run()
        except NoCoordinatorError as error:
            print_error(str(error))
            return EXIT_NO_COORDINATOR
    return 0 if ended or stop.reason == "parent" else EXIT_STOPPED


def root_of_trust(path: str) -> bytes | None:
    """Reads the root of trust that the configuration names; None if it names none.

    Raises:
        ConfigError: It cannot be used, or what verifies signatures is not installed.
    """
    if not path:
        return None
    try:
        from device_agent.installation.signed_source import read_root  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ConfigError(f"root needs {missing}: {install_command('release')}") from None
    return read_root(expand_user(path))


def _threads_text(threads: int, cores: float, others: int) -> str:
    shared = f", shared with {others} other agent(s)" if others else ""
    return f"trains with {threads} thread(s) of {cores:g} core(s){shared}; --threads says otherwise"
