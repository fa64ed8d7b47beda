from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fedlp_edge.system.log_file import LogFileHandler


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


def test_shows_a_defect_in_what_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger_of(tmp_path / "a.log").error("round %d", "one")
    assert "TypeError" in capfd.readouterr().err
