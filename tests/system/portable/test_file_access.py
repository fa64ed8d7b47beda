from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fedlp_edge.system.portable import file_access
from fedlp_edge.system.portable.file_access import (
    NO_LINK,
    PRIVATE,
    flush_directory,
    flush_to_disk,
    once_free,
    read_at,
    read_into,
    write_at,
)


def test_bytes_are_written_and_read_at_their_place(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT | NO_LINK | PRIVATE, 0o600)
    assert write_at(descriptor, b"line\n", 3) == 5
    flush_to_disk(descriptor)
    assert read_at(descriptor, 9, 0) == b"\0\0\0line\n"
    place = bytearray(6)
    assert read_into(descriptor, memoryview(place), 4) == 4
    assert (bytes(place), read_into(descriptor, memoryview(place), 8)) == (b"ine\n\0\0", 0)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    flush_directory(tmp_path)


class Busy:
    """A file that another program has open for the first calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self) -> None:
        self.calls -= 1
        if self.calls >= 0:
            raise PermissionError(13, "used by another process")


def test_windows_waits_for_who_has_a_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(file_access, "_PAUSE_SECONDS", 0.0)
    once_free(Busy(3))
    monkeypatch.setattr(file_access, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(PermissionError):
        once_free(Busy(3))


def test_elsewhere_a_file_that_may_not_be_renamed_is_told_at_once() -> None:
    busy = Busy(2)
    with pytest.raises(PermissionError):
        once_free(busy)
    assert busy.calls == 1


def test_windows_flushes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    flush_directory(tmp_path / "is not there")
