"""What this device can bear, from psutil, its control group, the worker's measurement and the profile.

``probe_host`` looks at the machine; ``device_facts`` is pure and decides what of that training may take.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.probe.cgroup_limits import CgroupLimits, read_limits
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.probe.throttling import is_throttled
from fedlp_edge.worker.jobs import DeviceMeasurement

BOARD_SYSTEM_MEMORY = 200_000_000
"""Bytes that the operating system of a played board is taken to need; a Raspberry Pi OS Lite without a desktop
idles between 100 and 200 MB."""

_OF_PROCESSORS = ("cpu", "soc", "core", "package", "tdie", "tctl", "gpu", "tj", "k10temp")
_ELSEWHERE = ("pmic", "bat", "charger", "wifi", "iwl", "nvme", "drivetemp", "ath1")
"""Words in the names of chips and sensors; the second ones are not what training heats, or placeholders."""
_COLDEST, _HOTTEST = -60.0, 150.0
_PLACEHOLDERS = (0.0, 100.0)
"""What firmware says where there is no sensor, unless its name speaks for it."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine as this process sees it; limits of its control group are already in the figures.

    Attributes:
        memory_available: bytes.
        memory_total: bytes.
        cores: usable; fractional under a CPU quota.
        load: one-minute average divided by the cores.
        battery_percent: charge, where there is a battery.
        on_battery: whether it is running from it.
        temperature_celsius: of the processor's hottest sensor or, where none is named after it, of any plausible one.
        swap_free: bytes of swap left to it; memory that training should not live on.
        throttled: whether heat or the power supply holds the processor back; None if the machine does not tell.
        own_memory: resident bytes of this process.
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
    """Looks at the machine; ``root`` is where the control group's files are read."""
    memory = psutil.virtual_memory()
    battery = _sensor("sensors_battery")
    host = Host(
        hostname=socket.gethostname(),
        architecture=platform.machine(),
        memory_available=memory.available,
        memory_total=memory.total,
        cores=float(len(os.sched_getaffinity(0))),
        battery_percent=None if battery is None else max(0.0, float(battery.percent)),
        on_battery=None if battery is None or battery.power_plugged is None else not battery.power_plugged,
        temperature_celsius=hottest(_sensor("sensors_temperatures")),
        swap_free=psutil.swap_memory().free,
        throttled=is_throttled(root),
        own_memory=psutil.Process().memory_info().rss,
    )
    return within(host, read_limits(root), os.getloadavg()[0])


def within(host: Host, limits: CgroupLimits, load_average: float) -> Host:
    """The host as seen from inside a control group."""
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
    """Threads for training: what the owner asked for, else the profile's, else this agent's share of the whole cores.

    Args:
        asked: by the owner.
        profile: its ``threads`` count.
        cores: that this process may use.
        others: agents on the same machine.
    """
    return asked or min(profile.threads or max(1, int(cores)), max(1, int(cores / (1 + others))))


def worker_share(host: Host, profile: DeviceProfile) -> int | None:
    """Bytes that a worker has on a played board: its RAM without the operating system and the agent; None without."""
    return None if profile.ram is None else max(0, profile.ram - BOARD_SYSTEM_MEMORY - host.own_memory)


def device_facts(
    host: Host,
    measured: DeviceMeasurement,
    profile: DeviceProfile,
    threads: int,
    calibration: Calibration | None = None,
) -> DeviceFacts:
    """Puts together what the planner needs.

    Args:
        host: probed while the idle worker is running, so that its memory is no longer available.
        measured: the worker's report.
        profile: its caps.
        threads: that training will use.
        calibration: of the machine.
    """
    share = worker_share(host, profile)
    board_left = None if share is None else max(0, share - measured.idle_memory)
    free = host.memory_available if measured.cuda_memory is None else measured.cuda_memory
    speed = measured.training_macs_per_second
    if profile.training_gmacs_per_second is not None:
        speed = min(speed, profile.training_gmacs_per_second * 1e9)
    return DeviceFacts(
        profile=profile.name,
        hostname=host.hostname,
        architecture=host.architecture,
        processor=measured.processor,
        training_memory=_least(free, board_left, profile.training_memory),
        memory_available=_least(host.memory_available, board_left),
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
        calibration=calibration,
        swap_free=host.swap_free,
        throttled=host.throttled,
        metered=profile.metered or None,
        data=measured.data,
    )


def _least(first: int, *others: int | None) -> int:
    return min([first, *(other for other in others if other is not None)])


def _sensor(name: str) -> Any:
    """A psutil sensor's reading; None where the platform, the kernel or the machine has none."""
    read: Callable[[], Any] | None = getattr(psutil, name, None)
    if read is None:
        return None
    try:
        return read()
    except (OSError, RuntimeError, ValueError, NotImplementedError):
        return None


def hottest(sensors: dict[str, list[Any]] | None) -> float | None:
    """The temperature that training raises.

    Boards have sensors of power chips that read a constant (100 degrees, 0), and of batteries and radios. What is named
    after a processor comes first; of the others only what can be a temperature counts.

    Args:
        sensors: by chip, as psutil reads them.
    """
    readings = [
        (f"{chip} {reading.label or ''}".lower(), float(reading.current))
        for chip, group in (sensors or {}).items()
        for reading in group
        if reading.current is not None and _COLDEST < reading.current < _HOTTEST
    ]
    meant = [(name, celsius) for name, celsius in readings if not any(word in name for word in _ELSEWHERE)]
    cores = [celsius for name, celsius in meant if any(word in name for word in _OF_PROCESSORS)]
    others = [celsius for _, celsius in meant if celsius not in _PLACEHOLDERS]
    return max(cores or others, default=None)
