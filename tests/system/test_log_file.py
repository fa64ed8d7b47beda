from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from fedlp_edge.system.lifecycle import print_error
from fedlp_edge.system.log_file import LogFileHandler, PlainFormatter, is_journal, plain_log, priority_mark


def logger_of(path: Path) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(LogFileHandler(path))
    return logger


def test_writes_lines(tmp_path: Path) -> None:
    logger_of(tmp_path / "a.log").error("round %d", 1)
    assert (tmp_path / "a.log").read_text() == "round 1\n"


def test_leaves_out_what_a_full_disk_has_no_room_for(capfd: pytest.CaptureFixture[str]) -> None:
    logger_of(Path("/dev/full")).error("round %d", 1)
    assert capfd.readouterr().err == ""


def test_goes_on_under_its_name_when_the_file_is_rotated_or_removed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, logger = tmp_path / "run" / "a.log", logging.Logger("test")
    path.parent.mkdir()
    logger.addHandler(LogFileHandler(path))
    logger.error("round 1")
    path.rename(tmp_path / "a.log.1")
    logger.error("round 2")
    assert ((tmp_path / "a.log.1").read_text(), path.read_text()) == ("round 1\n", "round 2\n")
    path.unlink()
    logger.error("round 3")
    assert path.read_text() == "round 3\n"
    path.unlink()
    path.parent.rmdir()
    logger.error("round 4")
    logger.error("round 5")
    path.parent.mkdir()
    logger.error("round 6")
    assert path.read_text() == "round 6\n"
    assert capfd.readouterr().err == ""


def test_shows_a_defect_in_what_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger_of(tmp_path / "a.log").error("round %d", "one")
    assert "TypeError" in capfd.readouterr().err


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """An output that systemd would have announced as that of its journal."""
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


def test_only_what_goes_to_the_journal_is_taken_for_it(
    journal: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "redirected").open("w") as other:
        assert [is_journal(stream) for stream in (journal, other, None)] == [True, False, False]
    for odd in ("", "8", "eight:nine"):
        monkeypatch.setenv("JOURNAL_STREAM", odd)
        assert not is_journal(journal)
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not is_journal(journal)


def test_lines_for_the_journal_have_their_priority_and_no_time(
    journal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.Logger("root")
    root.addHandler(logging.StreamHandler(journal))
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    plain_log("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    root.info("round %d: depth 3", 1)
    root.warning("disconnected")
    try:
        raise ValueError("x")
    except ValueError:
        root.exception("defect")

    journal.seek(0)
    lines = journal.read().splitlines()
    assert lines[:3] == ["<6>INFO    round 1: depth 3", "<4>WARNING disconnected", "<3>ERROR   defect"]
    assert all(line.startswith("<3>") for line in lines[3:])
    assert lines[-1] == "<3>ValueError: x"
    assert priority_mark(logging.DEBUG) == "<7>"


def test_errors_of_a_service_are_errors_in_the_journal(journal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", journal)
    print_error("the broker refuses the login")
    journal.seek(0)
    assert journal.read() == "<3>error: the broker refuses the login\n"


def test_log_lines_are_lines_and_tracebacks_stay_readable() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("plain")
    logger.addHandler(handler)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("from \x1b[31m%s", "there\nERROR forged")

    lines = stream.getvalue().splitlines()
    assert lines[0] == "ERROR from \\x1b[31mthere\\nERROR forged"
    assert lines[1] == "Traceback (most recent call last):"
