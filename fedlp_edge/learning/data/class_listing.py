"""This module normalises class names, so that one class has one spelling on every operating system."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from fedlp_edge.errors import DataError

LISTING = "classes.txt"
"""Name of the file that lists the class names by class number, one a line."""

_MAX_BYTES = 1 << 20
_INVISIBLE = "\ufeff\u200b\u2060"  # byte order mark, zero-width space, word joiner
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def normalized_name(name: str) -> str:
    """Returns the normal form of a class name: Unicode NFC, without blanks and invisible characters at either end.

    macOS, for example, writes "é" as two characters.

    Args:
        name: Name from a folder, a list or an array. If a folder's name is not UTF-8, it is read as Latin-1.
    """
    if any("\udc80" <= char <= "\udcff" for char in name):
        name = os.fsencode(name).decode("latin-1")
    name = unicodedata.normalize("NFC", name)
    while (shorter := name.strip().strip(_INVISIBLE)) != name:  # blanks and invisible characters may alternate
        name = shorter
    return name


def checked_names(names: Iterable[object], source: str) -> tuple[str, ...]:
    """Returns normalised class names, after a check that each is present and unique.

    Args:
        names: Class names from the user, by class number.
        source: Name of their source in messages.

    Raises:
        DataError: A name is empty, or stands for two classes.
    """
    spelled = tuple(
        normalized_name(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)) for name in names
    )
    for number, name in enumerate(spelled):
        if not name:
            raise DataError(f"{source}: class {number} has an empty name")
        if (first := spelled.index(name)) < number:
            raise DataError(f"{source} names {name!r} twice, as class {first} and as class {number}: remove one")
    return spelled


def alike_in_capitals(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the first names that differ in capitals alone, such as ``Ok`` and ``OK``; empty if there are none."""
    seen: dict[str, list[str]] = {}
    for name in names:
        seen.setdefault(name.casefold(), []).append(name)
    return tuple(next((same for same in seen.values() if len(same) > 1), ()))


def find_class_listing(folder: Path) -> Path | None:
    """Returns the path of a folder's ``classes.txt``, in whatever letter case; None if there is no such file."""
    exact = folder / LISTING
    if exact.is_file():
        return exact
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == LISTING and path.is_file()), None)


def read_class_listing(path: Path) -> tuple[str, ...]:
    """Reads class names by class number from a text file with one name a line.

    Any line ending and the usual encodings are read: UTF-8, UTF-16 and, failing these, Windows-1252.

    Raises:
        DataError: The file cannot be read, is too large, has no name, or has a name twice.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is too large for a list of classes: it has one name a line")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    lines = (normalized_name(line) for line in re.split("\r\n|\r|\n", _decoded(content, path)))
    names = [line for line in lines if line]
    if not names:
        raise DataError(f"{path} names no class: write one name a line, or remove it")
    return checked_names(names, str(path))


def _decoded(content: bytes, path: Path) -> str:
    encoding = next((encoding for mark, encoding in _ENCODINGS if content.startswith(mark)), "utf-8")
    # In UTF-16 without byte order mark every other byte of an ASCII letter is zero.
    if encoding == "utf-8" and b"\0" in content:
        encoding = "utf-16-le" if content[1::2].count(0) >= content[::2].count(0) else "utf-16-be"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise DataError(f"{path} is not a text: save it as UTF-8") from None
        return content.decode("cp1252", "replace")  # older Windows programs write this encoding
