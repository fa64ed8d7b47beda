"""This module writes and reads ``events.jsonl``, which may be read while the coordinator appends to it.

A line counts once its newline is written. A process that is killed while it writes leaves an incomplete last line; the
next writer removes it, and readers ignore it, as they do with what a power cut has left of others.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.system.portable.file_access import read_at

FILE_NAME = "events.jsonl"

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class EventLog:
    """A writer that appends events, one line each, visible to readers at once; a context manager that closes the file.

    Args:
        path: Path of the file, named in errors.
        file: File, unbuffered, which ends with a complete line.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a log, which is made if it is missing and continued if it exists.

        Raises:
            StorageError: The file cannot be opened.
        """
        try:
            file = path.open("a+b", buffering=0)
            _drop_half_line(file.fileno())
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened for writing: {error.strerror}") from None
        return cls(path, file)

    def write(self, event: AnyEvent) -> None:
        """Appends one event.

        Raises:
            StorageError: The disk is full, or cannot be written to.
        """
        try:
            self._file.write(_encoder.encode(event) + b"\n")
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}; is the disk full?") from None

    def close(self) -> None:
        """Closes the file; the log cannot be written any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class EventReader:
    """A reader that follows a growing log.

    Args:
        path: File, which may not exist yet.
        skip_existing: Whether to skip the events that are in the file already.
    """

    def __init__(self, path: Path, *, skip_existing: bool = False) -> None:
        self._path = path
        self._line = 0
        self._offset = 0
        if skip_existing and path.exists():
            content = path.read_bytes()
            self._offset = content.rfind(b"\n") + 1
            self._line = content.count(b"\n")

    def poll(self) -> list[AnyEvent]:
        """Returns the events written since the last call.

        Raises:
            StorageError: The file cannot be read, or a line is an event of another version.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read: {error.strerror}") from None
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [event for line in complete.splitlines() if (event := self._decode(line)) is not None]

    def _decode(self, line: bytes) -> AnyEvent | None:
        """Returns the event of a line; None where a power cut left a part of it, or zeros in its place."""
        self._line += 1
        try:
            return _decoder.decode(line)
        except msgspec.ValidationError as error:
            raise StorageError(
                f"{self._path}:{self._line}: written by another version of FedLP Edge, as this one knows no such "
                f"event: {error}; read the run with the version that made it, or update FedLP Edge here"
            ) from None
        except msgspec.DecodeError:
            return None


def read_events(path: Path) -> list[AnyEvent]:
    """Returns all complete events of a log; none if the file does not exist."""
    return EventReader(path).poll()


def _drop_half_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 4096)
        newline = read_at(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
