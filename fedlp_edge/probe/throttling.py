"""Whether the machine holds its processor back: by heat, or because its power supply is too weak.

A throttled device keeps its depth and misses its deadline, which from afar looks like a bad link. What is read here are
states, not counters: what is over is over.
"""

from __future__ import annotations

from pathlib import Path

_PI_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_NOW = 0b1111
"""Under-voltage, frequency capped, throttled, soft temperature limit: the bits of now; the upper ones are history."""


def is_throttled(root: Path = Path("/")) -> bool | None:
    """Looks at a Raspberry Pi's firmware and at the kernel's cooling devices below ``root``.

    Returns:
        None if the machine has neither.
    """
    answers = [answer for answer in (_firmware(root), _cooling(root)) if answer is not None]
    return any(answers) if answers else None


def _firmware(root: Path) -> bool | None:
    try:
        return bool(int((root / _PI_FIRMWARE).read_text().strip(), 16) & _PI_NOW)
    except (OSError, ValueError):
        return None


def _cooling(root: Path) -> bool | None:
    """Whether a cooling device that slows processors down (not a fan) is at work."""
    states = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        try:
            kind = (device / "type").read_text().strip().lower()
            if kind == "processor" or kind.startswith(("cpufreq", "thermal-cpufreq", "cpu-")):
                states.append(int((device / "cur_state").read_text()) > 0)
        except (OSError, ValueError):
            continue
    return any(states) if states else None
