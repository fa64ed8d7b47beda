"""Reads what people have typed into files on another system, as it was meant.

An editor of Windows ends lines with a carriage return and may save UTF-16, as PowerShell does with ``>``. Docker hands
over the lines of its ``--env-file`` as they are, with the carriage return and the quotes that a shell would remove.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment_variable(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Returns the value of an environment variable that names something, without quotes and blanks around it.

    Args:
        name: Name of the variable; not that of a secret, which may begin or end with any character.
        environ: Environment variables; ``os.environ`` by default.

    Returns:
        The value; empty where the variable is not set, or holds nothing but blanks.
    """
    value = (os.environ if environ is None else environ).get(name, "").strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1].strip() if is_quoted else value


def encoding_hint(content: bytes) -> str:
    """Returns in which encoding a text was saved that is no UTF-8, as far as its first bytes tell; else empty."""
    first = content[:2]
    is_utf16 = first in (b"\xff\xfe", b"\xfe\xff") or (len(first) > 1 and 0 in first and any(first))
    return "UTF-16" if is_utf16 else ""


def first_line(content: bytes) -> str:
    """Returns the first line of a file that holds a secret, without its line end and a byte order mark.

    Args:
        content: Bytes of the file.

    Returns:
        The line; empty if there is none.

    Raises:
        ValueError: The file is no UTF-8; the message says what to do, to go behind the name of the file.
    """
    if encoding := encoding_hint(content):
        raise ValueError(f"was saved as {encoding}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 text; save it as UTF-8") from None
    return text.partition("\n")[0].rstrip("\r")
