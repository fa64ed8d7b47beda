"""What was not copied of a run, or was lost in a power cut, is said before it costs rounds or answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import StorageError
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.incomplete_copies import check_continuable, check_exportable, lost_rounds
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory


def killed_run(path: Path) -> tuple[RunDirectory, Journal]:
    """A run whose coordinator is gone without having closed its journal, so that the second file holds everything."""
    run = RunDirectory.open(path)
    Checkpoints(run.checkpoints).save(2, {"w": np.zeros(1, np.float32)}, ServerState())
    journal = Journal.open(run.journal)
    journal.open_round(2, 1, ())
    journal.commit_round(2, b"{}")
    return run, journal


def test_a_copy_without_the_write_ahead_file_is_neither_continued_nor_exported(tmp_path: Path) -> None:
    run, journal = killed_run(tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "whole")
    shutil.copytree(run.path, tmp_path / "part", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    journal.close()
    for check in (check_continuable, check_exportable):
        check(RunDirectory(tmp_path / "whole"))
        with pytest.raises(StorageError, match=r"part holds checkpoints and not their journal \(journal\.sqlite, with"):
            check(RunDirectory(tmp_path / "part"))


def test_a_write_ahead_file_that_a_power_cut_emptied_leaves_the_run_to_go_on(tmp_path: Path) -> None:
    run, journal = killed_run(tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "cut")
    journal.close()
    cut = RunDirectory(tmp_path / "cut")
    (cut.path / "journal.sqlite-wal").write_bytes(b"")
    check_continuable(cut)
    assert lost_rounds(cut, 0).startswith("the journal ends with round 0 and the checkpoints with round 2")


def test_the_checkpoint_of_a_round_that_was_about_to_be_committed_is_no_loss(tmp_path: Path) -> None:
    run, _ = killed_run(tmp_path / "run")
    assert (lost_rounds(run, 2), lost_rounds(run, 1)) == ("", "")
    assert lost_rounds(RunDirectory(tmp_path / "new"), 0) == ""
