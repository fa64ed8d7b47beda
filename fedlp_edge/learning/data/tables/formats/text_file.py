"""This module reads files of text as people have them: compressed by gzip or not, in any of the usual encodings."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from fedlp_edge.errors import DataError

_SAMPLE_BYTES = 1 << 18
_LINE_BYTES = 1 << 12
_MAX_HEADER_BYTES = 1 << 26
_GZIP = b"\x1f\x8b"

WIDE = ("utf-16", "utf-32")
"""Encodings in which zero bytes are parts of characters."""

UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file, compressed by gzip or not, may raise."""

_OTHER_FILES = (
    (b"PK\x03\x04", "is an Excel workbook or another ZIP archive: save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook of the old kind: save the table as CSV"),
    (b"version https://git-lfs", "is a pointer of Git LFS: fetch the file with git lfs pull"),
    (b'{"', "is JSON: write json:FILE"),
    (b'[{"', "is JSON: write json:FILE"),
    (b"ARROW1", "is a Feather file: save the table as CSV or Parquet"),
    (b"PAR1", "is a Parquet file: write parquet:FILE"),
    (b"\x89HDF", "is an HDF5 file: save the table as CSV or Parquet"),
    (b"<", "is a web page or XML, no table: download the file itself"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: decompress it, or compress it by gzip"),
    (b"BZh", "is compressed by bzip2: decompress it, or compress it by gzip"),
    (b"\xfd7zXZ", "is compressed by xz: decompress it, or compress it by gzip"),
)


def unreadable(path: Path, error: OSError | EOFError | zlib.error) -> str:
    """Returns one line for a file that could not be read."""
    if isinstance(error, EOFError):
        return f"{path} is compressed by gzip and cut short: copy it again"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"{path} is compressed by gzip and damaged ({error}): copy it again"
    return f"cannot read {path}: {error.strerror or error}"


def is_text(path: Path) -> bool:
    """Tells whether a file begins with lines of text, as CSV files do."""
    with path.open("rb") as file:
        head = file.read(_LINE_BYTES)
    return b"\n" in head and b"\0" not in head


def is_compressed(path: Path) -> bool:
    """Tells whether a file is compressed by gzip.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def open_text(path: Path) -> BinaryIO:
    """Opens a file, compressed by gzip or not, to read the bytes of its text.

    Raises:
        OSError: The file cannot be opened.
    """
    return cast(BinaryIO, gzip.open(path)) if is_compressed(path) else path.open("rb")


def text_at_beginning(path: Path, encoding: str = "") -> tuple[str, str]:
    """Returns the first lines of a file, one at least, and the encoding of its text.

    A line with zero bytes, as a power cut leaves it, becomes a blank one.

    Args:
        path: The file.
        encoding: Encoding of the text, where it is known.

    Raises:
        DataError: The file cannot be read, is empty or no text.
    """
    head, whole = _head(path)
    if not head.strip():
        raise DataError(f"{path} is empty")
    if not head.strip(b"\0"):
        raise DataError(f"{path} holds zero bytes and nothing else, as a power cut leaves files: remove it")
    for start, what in _OTHER_FILES:
        if head.lstrip()[:32].startswith(start):
            raise DataError(f"{path} {what}")
    encoding = encoding or _encoding(head)
    if b"\0" in head and not encoding.startswith(WIDE):
        if b"\0" in head.lstrip().partition(b"\n")[0]:
            raise DataError(f"{path} is no text: save the table as CSV (for Parquet write parquet:FILE)")
        head = b"\n".join(b"" if b"\0" in line else line for line in head.split(b"\n"))
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    return text, encoding


def _head(path: Path) -> tuple[bytes, bool]:
    """Returns the beginning of a file, its first line at least, and whether that is all."""
    try:
        with open_text(path) as file:
            head = file.read(_SAMPLE_BYTES)
            while b"\n" not in head and b"\r" not in head and len(head) < _MAX_HEADER_BYTES:
                more = file.read(len(head))
                if not more:
                    return head, True
                head += more
            return head, not file.read(1)
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None


def _encoding(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):  # without a byte order mark
        half = head[first:1000:2]
        if half and half.count(0) > 0.9 * len(half) and not any(byte == 0 for byte in head[1 - first : 1000 : 2]):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"  # what Excel writes in western Europe
    return "utf-8"
