"""What a device says about itself, as it reaches the planner."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.system.printable import unprintable_fields

MAX_CHARACTERS = 100
"""Of each text; what is longer is cut."""

# Bounded, so that no report can make a later computation overflow.
NotNegativeInt = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One report of one device. ``None`` means that it has no such thing, or cannot tell.

    Attributes:
        profile: Name of the profile it plays, or ``"host"`` for the machine as it is.
        hostname: Name of the machine, for people.
        architecture: ``platform.machine()``.
        processor: ``"cpu"`` or ``"cuda"``, which training will use.
        training_memory: Bytes that training may take on top of the idle agent: the least of what is
            available, what the cgroup leaves, and what the profile allows (of CUDA memory if it trains there).
        memory_available: Bytes available to the process (psutil, cgroup).
        memory_total: Bytes of the machine or cgroup.
        cores: Usable cores; a CPU quota makes it fractional.
        threads: Threads that training will use.
        load: One-minute load average divided by the cores.
        training_macs_per_second: Multiply-accumulates per second in training (forward and backward
            counted as three forwards), measured by a short benchmark, capped by the profile.
        link_bytes_per_second: Rate of its link in the slower direction: the lesser of what the profile states and the
            agent measured.
        cuda_name: Name of the CUDA device.
        cuda_memory: Bytes of free CUDA memory.
        battery_percent: Charge, for a device on a battery.
        on_battery: Whether it is running from it.
        temperature_celsius: Temperature of the hottest sensor of its processor.
        samples: Training samples that it holds.
        calibration: Measured costs of training on the device; None if it did not measure them.
        swap_free: Bytes of swap that its limits leave it; not counted as memory, since training from it is hopeless.
        throttled: Whether it is held back by heat or its power supply.
        metered: Whether its owner pays for what the link carries.
        data: Shape and classes of the samples; None from devices that do not tell.
    """

    profile: str = "host"
    hostname: str = ""
    architecture: str = ""
    processor: str = "cpu"
    training_memory: NotNegativeInt
    memory_available: NotNegativeInt = 0
    memory_total: NotNegativeInt = 0
    cores: NotNegative = 1.0
    threads: NotNegativeInt = 1
    load: NotNegative = 0.0
    training_macs_per_second: NotNegative
    link_bytes_per_second: NotNegative | None = None
    cuda_name: str | None = None
    cuda_memory: NotNegativeInt | None = None
    battery_percent: NotNegative | None = None
    on_battery: bool | None = None
    temperature_celsius: float | None = None
    samples: NotNegativeInt
    calibration: Calibration | None = None
    swap_free: NotNegativeInt | None = None
    throttled: bool | None = None
    metered: bool | None = None
    data: DataFacts | None = None

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self, MAX_CHARACTERS):
            msgspec.structs.force_setattr(self, name, words)


def without_statistics(facts: DeviceFacts) -> DeviceFacts:
    """Returns a report without mean and deviation of the channels of its samples, for owners who keep these.

    Those of columns stay: the fleet agrees on a scale by them.
    """
    if facts.data is None or facts.data.inputs is None:
        return facts
    data = msgspec.structs.replace(facts.data, inputs=facts.data.inputs.without_channels)
    return msgspec.structs.replace(facts, data=data)
