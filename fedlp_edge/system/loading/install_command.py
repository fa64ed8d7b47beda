"""This module says how to install what is missing, in the environment that the program runs from."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from fedlp_edge.system.portable.shell_words import quoted


def install_command(extra: str) -> str:
    """Returns how to install an extra of this package into the environment that this program runs from.

    A plain ``pip`` is that of another environment where this one is not activated, or was made by pipx or uv; and the
    system's own refuses (PEP 668).

    Args:
        extra: One or more names of ``pyproject.toml``, separated by commas.
    """
    wanted, prefix = f'"fedlp-edge[{extra}]"', Path(sys.prefix)
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx runpip {quoted(prefix.name)} install {wanted}"
    beside = shutil.which("pip", path=str(Path(sys.executable).parent))
    if beside is not None:
        found = shutil.which("pip")
        here = found is not None and Path(found).parent.resolve() == Path(beside).parent.resolve()
        return f"{'pip' if here else quoted(beside)} install {wanted}"
    if _is_made_by_uv(prefix):
        return f"uv pip install --python {quoted(str(prefix))} {wanted}"
    return f"pip install {wanted}"


def _is_made_by_uv(prefix: Path) -> bool:
    try:
        return re.search(r"^uv = ", (prefix / "pyvenv.cfg").read_text("utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False
