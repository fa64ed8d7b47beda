from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from fedlp_edge.errors import StorageError
from fedlp_edge.storage.run_directory import RunDirectory


def test_admits_one_coordinator_at_a_time(tmp_path: Path) -> None:
    first = RunDirectory.open(tmp_path)
    first.lock()
    with pytest.raises(StorageError, match="another coordinator is at work"):
        RunDirectory.open(tmp_path).lock()


def test_names_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        RunDirectory.open(tmp_path / "file")


def test_clears_the_spool_and_nothing_else(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path)
    run.update(1, "a").write_bytes(b"x")
    (run.checkpoints / "kept").write_bytes(b"y")
    run.clear_spool()
    assert list(run.spool.iterdir()) == []
    assert (run.checkpoints / "kept").exists()


def test_is_its_owners_alone(tmp_path: Path) -> None:
    directory = RunDirectory.open(tmp_path / "runs" / "run")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (directory.path, directory.spool, directory.onnx)} == {0o700}


def test_lock_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    directory = RunDirectory.open(tmp_path / "run")
    (directory.path / "lock").symlink_to(precious)
    with pytest.raises(StorageError, match="as a lock"):
        directory.lock()
    assert precious.read_text() == "keep me"


def test_run_whose_directory_was_removed_is_told_so(tmp_path: Path) -> None:
    directory = RunDirectory.open(tmp_path / "run")
    directory.lock()
    directory.check_present()  # whatever failed before there was a journal
    shutil.rmtree(directory.path)
    with pytest.raises(StorageError, match="run was removed while the run was at work; the model is lost"):
        directory.check_present()
