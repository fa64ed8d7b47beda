"""This module records how a served model fares, in a file beside the link that it is served from.

The agent that has just switched the link reads it: a model that cannot be loaded, cannot answer, or ends the process
that answers with it is taken back. The file is small, and is replaced as a whole.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from fedlp_edge.system.files import link_target, write_file

FILE = "serving.json"
"""Name of the file beside the link."""


class ServingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file.

    Attributes:
        file: Resolved path of the model.
        starts: Number of processes that have loaded it, or tried to.
        answers: Number of answers, counted up to the first few.
        failures: Number of requests that it could not answer though they were in order, and of failures to load.
        reason: The latest failure in one line; empty without any.
    """

    file: str
    starts: int = 0
    answers: int = 0
    failures: int = 0
    reason: str = ""


def read_record(directory: Path) -> ServingRecord | None:
    """Returns the record below the directory of the link; None if there is none that can be read."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=ServingRecord)
    except (OSError, msgspec.DecodeError):
        return None


def forget_record(directory: Path) -> None:
    """Removes the record: what is served from now on begins with none.

    Raises:
        OSError: The disk failed.
    """
    (directory / FILE).unlink(missing_ok=True)


class ServingRecorder:
    """Writes the record of one serving process; what it cannot write, it leaves out.

    Args:
        link: Path that the model is served from; nothing is recorded unless it is a link, as an agent's is.
    """

    _COUNTED = 16  # answers that are written; a model that has given so many is no longer new

    def __init__(self, link: Path) -> None:
        self._link = link
        self._record: ServingRecord | None = None

    def starts(self) -> None:
        """The file that the link points to is about to be loaded; told before, since loading may end the process."""
        if not (target := link_target(self._link)):
            return
        file = str((self._link.parent / target).resolve())
        before = read_record(self._link.parent)
        record = before if before is not None and before.file == file else ServingRecord(file=file)
        self._write(msgspec.structs.replace(record, starts=record.starts + 1))

    def answered(self) -> None:
        """The model has answered."""
        record = self._record
        if record is not None and record.answers < self._COUNTED:
            self._write(msgspec.structs.replace(record, answers=record.answers + 1))

    def failed(self, reason: str) -> None:
        """The model could not be loaded, or could not answer what any model could."""
        if self._record is not None:
            record = self._record
            self._write(msgspec.structs.replace(record, failures=record.failures + 1, reason=reason[:300]))

    def _write(self, record: ServingRecord) -> None:
        self._record = record
        with suppress(OSError):
            write_file(self._link.parent / FILE, [msgspec.json.encode(record)], durable=False)
