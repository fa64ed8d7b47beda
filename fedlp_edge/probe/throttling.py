"""This module finds out whether the machine throttles its processor, because of heat or a weak power supply.

A throttled device keeps its depth and misses its deadline, which looks like a bad link to the coordinator. Only the
present state is read, not counters of past events.
"""

from __future__ import annotations

from pathlib import Path

_PI_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_NOW = 0b1111
"""Bits of the present state: under-voltage, frequency capped, throttled, soft temperature limit (higher: the past)."""


def is_throttled(root: Path = Path("/")) -> bool | None:
    """Tells whether the processor is throttled, from a Raspberry Pi's firmware and the kernel's cooling devices.

    Args:
        root: Directory below which ``sys`` is read.

    Returns:
        Whether either reports throttling; None if the machine has neither.
    """
    answers = [answer for answer in (_firmware(root), _cooling(root)) if answer is not None]
    return any(answers) if answers else None


def _firmware(root: Path) -> bool | None:
    try:
        return bool(int((root / _PI_FIRMWARE).read_text().strip(), 16) & _PI_NOW)
    except (OSError, ValueError):
        return None


def _cooling(root: Path) -> bool | None:
    """Tells whether a cooling device that slows processors down (not a fan) is active; None if there is none."""
    states = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        try:
            kind = (device / "type").read_text().strip().lower()
            if kind == "processor" or kind.startswith(("cpufreq", "thermal-cpufreq", "cpu-")):
                states.append(int((device / "cur_state").read_text()) > 0)
        except (OSError, ValueError):
            continue
    return any(states) if states else None
