"""This module formats bytes, times and shares for people, in the same way in every report."""

from __future__ import annotations

from collections.abc import Iterable

UNTRAINED = "no device has this depth"
"""Text in place of the accuracy of an exit that no device trains."""

_SPARKS = "▁▂▃▄▅▆▇█"


def format_bytes(count: float) -> str:
    """Formats ``1536`` as ``1.5 kB``, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def format_seconds(seconds: float) -> str:
    """Formats ``75.3`` as ``1:15`` and ``4.26`` as ``4.3 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_share(share: float | None) -> str:
    """Formats ``0.9131`` as ``91.3 %``, and None as a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def sparkline(shares: Iterable[float], width: int = 24) -> str:
    """Draws the last ``width`` values between 0 and 1 as one block character each."""
    recent = list(shares)[-width:]
    return "".join(_SPARKS[min(len(_SPARKS) - 1, max(0, int(share * len(_SPARKS))))] for share in recent)


def depth_bar(depth: int, depths: int) -> str:
    """Draws depth 3 of 4 as ``▮▮▮▯``."""
    return "▮" * depth + "▯" * max(0, depths - depth)
