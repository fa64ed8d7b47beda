"""This module reads text files whose lines are not quite what they should be.

A power cut leaves zero bytes, as file systems do with what was not written. A line that holds any becomes a line of
empty fields: what stood there is lost, and the rows beside it do not follow one another. Some programs end each line
with a sign that is no delimiter, such as a semicolon behind fields that commas separate.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


def is_blank(path: Path) -> bool:
    """Tells whether a file holds nothing at all, or zero bytes alone; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return not any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(_CHUNK), b""))
    except OSError:  # said where it is read
        return False


class MendedLines(io.RawIOBase):
    """The bytes of a file with another line in the place of each line with zero bytes, and without a sign at its end.

    Args:
        file: Open file.
        line: The other line, without its end.
        sign: Sign to leave out before the end of each line; empty for none.

    Attributes:
        zeroed: Number of lines with zero bytes, of what was read so far.
    """

    def __init__(self, file: BinaryIO, line: bytes, sign: bytes = b"") -> None:
        self._file = file
        self._line = line
        self._sign = re.compile(re.escape(sign) + rb"[ \t]*(?=[\r\n]|\Z)") if sign else None
        self._begun = b""  # the beginning of a line whose end was not read yet
        self._rest = memoryview(b"")
        self.zeroed = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads into a buffer; returns the number of bytes, 0 at the end.

        Raises:
            OSError: The file cannot be read.
        """
        self._rest = self._rest or memoryview(self._lines())
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def _lines(self) -> bytes:
        """Returns the next whole lines, and what stands behind the last of them at the end of the file."""
        while chunk := self._file.read(_CHUNK):
            # Files of old Macs end their lines with a carriage return alone, and would be held back as a whole.
            end = chunk.rfind(b"\n" if b"\n" in chunk else b"\r") + 1
            if end:
                lines, self._begun = self._begun + chunk[:end], chunk[end:]
                return self._mended(lines)
            self._begun += chunk
        lines, self._begun = self._begun, b""
        return self._mended(lines)

    def _mended(self, lines: bytes) -> bytes:
        if self._sign is not None:
            lines = self._sign.sub(b"", lines)
        if b"\0" not in lines:
            return lines
        mended = [self._line + b"\n" if b"\0" in line else line for line in io.BytesIO(lines)]
        self.zeroed += sum(b"\0" in line for line in io.BytesIO(lines))
        return b"".join(mended)
