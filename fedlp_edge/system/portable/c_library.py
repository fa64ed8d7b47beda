"""This module finds functions of the C library that this process and its native modules use."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any


def c_function(name: str) -> Callable[..., Any] | None:
    """Returns a function of the C library by its name; None if this system's C library has no such function."""
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    return getattr(library, name, None)
