"""Who may work in a directory, and for how long a process waits for another one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fedlp_edge.system.locks import is_held, lock_file


def test_one_at_a_time(tmp_path: Path) -> None:
    first = lock_file(tmp_path / "lock")
    assert first is not None
    assert lock_file(tmp_path / "lock") is None
    first.close()
    again = lock_file(tmp_path / "lock")
    assert again is not None
    again.close()


def test_waits_for_the_one_that_holds_it(tmp_path: Path) -> None:
    first = lock_file(tmp_path / "lock")
    assert first is not None
    release = threading.Timer(0.1, first.close)
    release.start()
    second = lock_file(tmp_path / "lock", patience_seconds=60.0)
    release.join()
    assert second is not None
    second.close()


def test_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"):
        lock_file(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "keep me"


def test_tells_whether_somebody_holds_a_lock_without_taking_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()
    file = lock_file(tmp_path / "lock")
    assert file is not None
    assert is_held(tmp_path / "lock")
    file.close()
    assert not is_held(tmp_path / "lock")
    assert lock_file(tmp_path / "lock") is not None
