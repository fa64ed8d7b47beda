"""This module implements ``fedlp profile``, which shows this machine's resources as an agent would find them."""

from __future__ import annotations

import msgspec
from rich.table import Table

from fedlp_edge.errors import WorkerError
from fedlp_edge.probe.expected import RUNTIME_MEMORY
from fedlp_edge.probe.host import Host, device_facts, probe_host, training_threads
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.worker.jobs import DeviceMeasurement, Measure, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

_MEASURE_SECONDS = 120.0


class MachineReport(msgspec.Struct, frozen=True, kw_only=True):
    """The command's answer; ``docs/planning.md`` has the keys. ``None``: not there, not measured, or not known."""

    hostname: str
    architecture: str
    cores: float
    threads: int
    load: float
    memory_total: int
    memory_available: int
    training_memory: int
    measured: bool
    processor: str | None = None
    training_macs_per_second: float | None = None
    idle_memory: int | None = None
    cuda_name: str | None = None
    cuda_memory: int | None = None
    battery_percent: float | None = None
    on_battery: bool | None = None
    temperature_celsius: float | None = None


def run_profile(*, measure: bool, as_json: bool) -> int:
    """Prints a table, or the JSON object of ``MachineReport``.

    Raises:
        WorkerError: The worker that measures failed.
    """
    report = measured_report() if measure else unmeasured_report(probe_host())
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        open_console().print(_table(report))
    return 0


def unmeasured_report(host: Host) -> MachineReport:
    """What can be said without starting a worker; memory for training is then an estimate."""
    memory = max(0, host.memory_available - RUNTIME_MEMORY)
    return _report(host, training_threads(None, DeviceProfile(), host.cores), memory)


def measured_report() -> MachineReport:
    """Makes the report with the agent's benchmark, run by a worker on synthetic data.

    Raises:
        WorkerError: The worker failed.
    """
    threads = training_threads(None, DeviceProfile(), probe_host().cores)
    with WorkerProcess(WorkerOptions(threads=threads, device="auto")) as worker:
        measured = worker.call(Measure(), timeout=_MEASURE_SECONDS)
        if not isinstance(measured, DeviceMeasurement):
            raise WorkerError(f"the worker answered a measurement with {type(measured).__name__}")
        host = probe_host()  # while the idle worker takes its part
    facts = device_facts(host, measured, DeviceProfile(), threads)
    report = _report(host, threads, facts.training_memory)
    return msgspec.structs.replace(
        report,
        measured=True,
        processor=measured.processor,
        training_macs_per_second=measured.training_macs_per_second,
        idle_memory=measured.idle_memory,
        cuda_name=measured.cuda_name,
        cuda_memory=measured.cuda_memory,
    )


def _report(host: Host, threads: int, training_memory: int) -> MachineReport:
    return MachineReport(
        hostname=host.hostname,
        architecture=host.architecture,
        cores=host.cores,
        threads=threads,
        load=host.load,
        memory_total=host.memory_total,
        memory_available=host.memory_available,
        training_memory=training_memory,
        measured=False,
        battery_percent=host.battery_percent,
        on_battery=host.on_battery,
        temperature_celsius=host.temperature_celsius,
    )


def _table(report: MachineReport) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    row = table.add_row
    row("host", f"{report.hostname}, {report.architecture}")
    row("cores", f"{report.cores:g}, load {report.load:.2f} per core")
    row("memory", f"{format_bytes(report.memory_available)} of {format_bytes(report.memory_total)} available")
    if report.battery_percent is not None:
        row("battery", f"{report.battery_percent:.0f} %, {'in use' if report.on_battery else 'plugged in'}")
    if report.temperature_celsius is not None:
        row("temperature", f"{report.temperature_celsius:.0f} °C")
    if report.cuda_name is not None:
        row("GPU", f"{report.cuda_name}, {format_bytes(report.cuda_memory or 0)} free")
    free = format_bytes(report.training_memory)
    if report.idle_memory is None or report.training_macs_per_second is None:
        row("for training", f"about {free}: {format_bytes(RUNTIME_MEMORY)} are left for agent and PyTorch")
        row("speed", "not measured; --measure starts a worker and does")
        return table
    row("for training", f"{free}, beside an idle worker of {format_bytes(report.idle_memory)}")
    where = "CUDA" if report.processor == "cuda" else f"{report.threads} CPU thread{'s' * (report.threads > 1)}"
    row("speed", f"{report.training_macs_per_second / 1e9:.1f} GMAC/s in training, {where}")
    return table
