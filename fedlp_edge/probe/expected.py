"""This module predicts the device facts of a profile, for plans that are made before any device exists.

A device that joins a fleet measures itself (``host.py``), and its report replaces this prediction.
"""

from __future__ import annotations

from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.probe.host import BOARD_SYSTEM_MEMORY
from fedlp_edge.probe.profiles import DeviceProfile

RUNTIME_MEMORY = 350_000_000
"""Bytes assumed for the agent (45 MB) and its idle worker: the CPU build of PyTorch (230 MB), and data.
The CUDA build takes 300 MB more on x86-64."""


def expected_training_memory(profile: DeviceProfile) -> int | None:
    """Returns the memory for training: the RAM without system, agent and idle worker, capped by the owner's limit.

    Returns:
        Bytes; None if the profile states neither ``ram_mb`` nor ``training_memory_mb``.
    """
    left = None if profile.ram is None else max(0, profile.ram - BOARD_SYSTEM_MEMORY - RUNTIME_MEMORY)
    return min((bound for bound in (left, profile.training_memory) if bound is not None), default=None)


def expected_facts(profile: DeviceProfile, samples: int) -> DeviceFacts | None:
    """Returns the device facts of a device that trains on its CPU and has exactly what its profile states.

    Args:
        profile: Device profile. Its training speed, which only caps a real device, counts as the speed; 0 (unknown) if
            it states none.
        samples: Number of samples that the device holds.

    Returns:
        Expected device facts; None if the profile does not say how much memory there is.
    """
    memory = expected_training_memory(profile)
    if memory is None:
        return None
    threads = profile.threads or 1
    return DeviceFacts(
        profile=profile.name,
        training_memory=memory,
        memory_available=memory,
        memory_total=profile.ram or 0,
        cores=float(threads),
        threads=threads,
        training_macs_per_second=(profile.training_gmacs_per_second or 0.0) * 1e9,
        link_bytes_per_second=profile.link_bytes_per_second,
        samples=samples,
    )
