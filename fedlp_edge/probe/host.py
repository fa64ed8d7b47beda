"""This module collects the device facts from psutil, the control group, the worker's measurement and the profile.

``probe_host`` reads the state of the machine; ``device_facts`` is a pure function that computes what training may use.
"""

from __future__ import annotations

import platform
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.prediction import ON_CUDA
from fedlp_edge.probe.cgroup_limits import CgroupLimits, read_limits
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.probe.throttling import is_throttled
from fedlp_edge.system.cores import usable_cores
from fedlp_edge.system.memory import system_memory
from fedlp_edge.worker.jobs import DeviceMeasurement

T = TypeVar("T")

BOARD_SYSTEM_MEMORY = 200_000_000
"""Bytes assumed for the operating system of an emulated board; a Raspberry Pi OS Lite without a desktop idles between
100 and 200 MB."""

_OF_PROCESSORS = ("cpu", "soc", "core", "package", "tdie", "tctl", "gpu", "tj", "k10temp")
_ELSEWHERE = ("pmic", "bat", "charger", "wifi", "iwl", "nvme", "drivetemp", "ath1")
"""Parts of names of chips and sensors; those of ``_ELSEWHERE`` read what training does not heat, or placeholders."""
_COLDEST, _HOTTEST = -60.0, 150.0  # degrees Celsius; readings outside are faults
_PLACEHOLDERS = (0.0, 100.0)
"""Degrees Celsius that firmware reports where no sensor is; they count only for sensors named after a processor."""


@dataclass(frozen=True, slots=True)
class Host:
    """Describes the machine as this process may use it, within the limits of its control group.

    Attributes:
        hostname: Name of the machine in its network.
        architecture: Processor architecture, such as ``aarch64``.
        memory_available: Memory that this process may still allocate, bytes.
        memory_total: Memory of the machine or of the control group, whichever is smaller, bytes.
        cores: Number of usable cores; fractional under a CPU quota.
        load: One-minute load average divided by ``cores``.
        battery_percent: Charge of the battery, 0 to 100; None if there is no battery.
        on_battery: Whether the machine runs from its battery; None if unknown.
        temperature_celsius: Reading of the hottest sensor named after a processor or, if there is none, of the hottest
            plausible sensor; None if there is none either.
        swap_free: Swap that this process may still use, bytes; None if unknown. Training should not rely on it.
        throttled: Whether heat or the power supply slows the processor down; None if the machine does not report it.
        own_memory: Resident memory of this process, bytes.
    """

    hostname: str
    architecture: str
    memory_available: int
    memory_total: int
    cores: float
    load: float = 0.0
    battery_percent: float | None = None
    on_battery: bool | None = None
    temperature_celsius: float | None = None
    swap_free: int | None = None
    throttled: bool | None = None
    own_memory: int = 0


def probe_host(root: Path = Path("/")) -> Host:
    """Reads the state of the machine.

    Args:
        root: Directory below which ``proc`` and ``sys`` are read for control groups and throttling.
    """
    total, available = system_memory()
    battery = _sensor("sensors_battery")
    host = Host(
        hostname=socket.gethostname(),
        architecture=platform.machine(),
        memory_available=available,
        memory_total=total,
        cores=float(usable_cores()),
        battery_percent=None if battery is None else max(0.0, float(battery.percent)),
        on_battery=None if battery is None or battery.power_plugged is None else not battery.power_plugged,
        temperature_celsius=hottest(_sensor("sensors_temperatures")),
        swap_free=_swap_free(),
        throttled=is_throttled(root),
        own_memory=_told(lambda: int(psutil.Process().memory_info().rss), 0),
    )
    return within(host, read_limits(root), _load_average())


def _load_average() -> float:
    """Returns the load average of the last minute; 0 where the system does not tell it."""
    return _told(lambda: float(psutil.getloadavg()[0]), 0.0)


def _swap_free() -> int:
    """Returns the free bytes of swap space, without what psutil warns of where /proc/vmstat is hidden (containers)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return _told(lambda: int(psutil.swap_memory().free), 0)


def within(host: Host, limits: CgroupLimits, load_average: float) -> Host:
    """Returns the host reduced to the limits of a control group.

    Args:
        host: The whole machine.
        limits: Limits of the control group.
        load_average: One-minute load average of the machine, not divided by cores.
    """
    cores = min(host.cores, limits.cpus or host.cores)
    return replace(
        host,
        memory_available=_least(host.memory_available, limits.memory_available),
        memory_total=_least(host.memory_total, limits.memory_total),
        cores=cores,
        load=load_average / cores,
        swap_free=None if host.swap_free is None else _least(host.swap_free, limits.swap_available),
    )


def training_threads(asked: int | None, profile: DeviceProfile, cores: float, others: int = 0) -> int:
    """Returns the number of training threads: the owner's choice, else the profile's limit or this agent's core share.

    Args:
        asked: Number that the owner asks for; None if the owner does not care.
        profile: Profile whose ``threads`` caps the number.
        cores: Number of cores that this process may use.
        others: Number of other agents on the machine, which share its cores.
    """
    return asked or min(profile.threads or max(1, int(cores)), max(1, int(cores / (1 + others))))


def worker_share(host: Host, profile: DeviceProfile) -> int | None:
    """Returns the memory that an emulated board leaves to the worker: its RAM without operating system and agent.

    Returns:
        Bytes; None if the profile states no RAM.
    """
    return None if profile.ram is None else max(0, profile.ram - BOARD_SYSTEM_MEMORY - host.own_memory)


def device_facts(
    host: Host,
    measured: DeviceMeasurement,
    profile: DeviceProfile,
    threads: int,
    calibration: Calibration | None = None,
) -> DeviceFacts:
    """Combines host, measurement and profile into the device facts that the planner needs.

    Args:
        host: Host as probed while the idle worker was running, so that the worker's memory counts as used.
        measured: Measurement that the worker reports.
        profile: Profile whose limits cap the facts.
        threads: Number of training threads.
        calibration: Calibration of the machine's CPU; None if there is none. It says nothing of a GPU.
    """
    share = worker_share(host, profile)
    board_left = None if share is None else max(0, share - measured.idle_memory - measured.data_reserve)
    memory = max(0, host.memory_available - measured.data_reserve)
    free = memory
    if measured.cuda_memory is not None:
        shared = measured.cuda_shares_memory
        free = min(memory, measured.cuda_memory - measured.data_reserve) if shared else measured.cuda_memory
    speed = measured.training_macs_per_second
    if profile.training_gmacs_per_second is not None:
        speed = min(speed, profile.training_gmacs_per_second * 1e9)
    return DeviceFacts(
        profile=profile.name,
        hostname=host.hostname,
        architecture=host.architecture,
        processor=measured.processor,
        training_memory=_least(max(0, free), board_left, profile.training_memory),
        memory_available=_least(memory, board_left),
        memory_total=_least(host.memory_total, profile.ram),
        cores=host.cores,
        threads=threads,
        load=host.load,
        training_macs_per_second=speed,
        link_bytes_per_second=profile.link_bytes_per_second,
        cuda_name=measured.cuda_name,
        cuda_memory=measured.cuda_memory,
        battery_percent=host.battery_percent,
        on_battery=host.on_battery,
        temperature_celsius=host.temperature_celsius,
        samples=measured.samples,
        calibration=ON_CUDA if measured.processor == "cuda" else calibration,
        swap_free=host.swap_free,
        throttled=host.throttled,
        metered=profile.metered or None,
        data=measured.data,
    )


def _told(read: Callable[[], T], otherwise: T) -> T:
    """Returns what the system tells of itself, or another value where it does not.

    ``/proc`` may be hidden, mounted for another group of processes or played by a sandbox, drivers of sensors fail to
    read them (``EIO``), and psutil has errors of its own. None of that keeps a device from training.
    """
    try:
        return read()
    except (OSError, RuntimeError, ValueError, LookupError, psutil.Error):
        return otherwise


def _least(first: int, *others: int | None) -> int:
    return min([first, *(other for other in others if other is not None)])


def _sensor(name: str) -> Any:
    """Returns the reading of a psutil sensor; None where the platform, the kernel or the machine has no such sensor."""
    read: Callable[[], Any] | None = getattr(psutil, name, None)
    return None if read is None else _told(read, None)


def hottest(sensors: dict[str, list[Any]] | None) -> float | None:
    """Returns the highest temperature among the sensors that training heats.

    Boards also have sensors of batteries and radios, and of power chips that always read 0 or 100 degrees. Sensors
    named after a processor are preferred; among the others, only plausible readings count.

    Args:
        sensors: Sensors by chip, as psutil returns them; None if the platform has none.

    Returns:
        Degrees Celsius; None if no sensor has a plausible reading.
    """
    readings = [
        (f"{chip} {reading.label or ''}".lower(), float(reading.current))
        for chip, group in (sensors or {}).items()
        for reading in group
        if reading.current is not None and _COLDEST < reading.current < _HOTTEST
    ]
    plausible = [(name, celsius) for name, celsius in readings if not any(word in name for word in _ELSEWHERE)]
    cores = [celsius for name, celsius in plausible if any(word in name for word in _OF_PROCESSORS)]
    others = [celsius for _, celsius in plausible if celsius not in _PLACEHOLDERS]
    return max(cores or others, default=None)
