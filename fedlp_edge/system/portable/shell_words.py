"""This module writes commands that a person can copy into the shell of this system."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence


def quoted(word: str) -> str:
    """Returns one word of a command, in quotation marks where the shell asks for them."""
    return quoted_command([word])


def quoted_command(words: Sequence[str]) -> str:
    """Returns a whole command; neither shell of Windows takes the single quotation marks of the others."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
