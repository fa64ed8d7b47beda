"""This module reads times that people write, as options and keys that stand for one take them."""

from __future__ import annotations

import re

_TIME = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]+)?) ?(?P<unit>[smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

TIME_FORMS = "seconds, or a number with s, m, h or d, such as 5m"
"""What a time looks like, for a message."""


def seconds_of(text: str | float) -> float:
    """Returns a time such as ``90``, ``1.5s``, ``5m`` or ``1 h`` in seconds.

    Raises:
        ValueError: It is no time.
    """
    found = _TIME.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no time; it must be {TIME_FORMS}")
    return float(found["number"]) * _SECONDS[found["unit"]]
