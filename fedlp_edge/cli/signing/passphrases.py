"""This module asks for the passphrases of key files: of a file, of the environment, or on the terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.key_files import AskPassphrase
from fedlp_edge.system.portable.edited_text import first_line

PASSPHRASE = "FEDLP_KEY_PASSPHRASE"
"""Environment variable with the passphrase of every key that a command reads."""


def passphrase_from(file: Path | None) -> AskPassphrase:
    """Returns what asks for the passphrase of a key.

    Args:
        file: File whose first line is the passphrase of every key; None for the environment or the terminal.
    """

    def ask(key: Path) -> str:
        if file is not None:
            return _first_line(file)
        if found := _of_the_environment():
            return found
        return getpass.getpass(f"passphrase of {key}: ") if sys.stdin.isatty() else ""

    return ask


def new_passphrase(file: Path | None, *, none: bool) -> str:
    """Returns the passphrase of a key that is to be made; empty for a key that is not encrypted.

    Args:
        file: File whose first line is the passphrase.
        none: Whether the key shall not be encrypted.

    Raises:
        ReleaseError: There is no passphrase, or it was mistyped.
    """
    if none:
        return ""
    if file is not None:
        return _first_line(file)
    if found := _of_the_environment():
        return found
    if not sys.stdin.isatty():
        raise ReleaseError("give a passphrase by --passphrase-file, or --no-passphrase for a key that is not encrypted")
    first = getpass.getpass("passphrase of the new key: ")
    if not first:
        raise ReleaseError("the passphrase is empty; --no-passphrase makes a key that is not encrypted")
    if getpass.getpass("again: ") != first:
        raise ReleaseError("the two passphrases differ")
    return first


def _of_the_environment() -> str:
    return os.environ.get(PASSPHRASE, "").rstrip("\r\n")


def _first_line(file: Path) -> str:
    try:
        found = first_line(file.read_bytes())
    except OSError as error:
        raise ReleaseError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise ReleaseError(f"{file} {error}") from None
    if not found:
        raise ReleaseError(f"{file} holds no passphrase in its first line")
    return found
