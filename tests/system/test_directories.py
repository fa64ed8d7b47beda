from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from fedlp_edge.errors import StorageError
from fedlp_edge.system.directories import (
    empty_directory,
    expand_user,
    have_temporary_directory,
    home_directory,
    is_there,
    make_directory,
    owner_hint,
    walk_folders,
    xdg_directory,
)


def test_is_its_owners_alone(tmp_path: Path) -> None:
    made = make_directory(tmp_path / "fleet" / "device")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert make_directory(made) == made


def test_names_the_option_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another place with --out"):
        make_directory(tmp_path / "file" / "below", "--out")


def test_empties_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    assert list(empty_directory(tmp_path).iterdir()) == []


def test_a_user_without_a_home_directory_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that is started with --user 12345: no HOME, and no account of that number.
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)

    assert expand_user("/data/parts") == Path("/data/parts")
    with pytest.raises(StorageError, match=r"^~/parts: this user has no home directory; set HOME, or write the whole"):
        expand_user("~/parts")
    with pytest.raises(StorageError, match=r"^this user has no home directory; name another$"):
        home_directory("name another")


def test_temporary_files_go_beside_the_state_where_nothing_else_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "before")
    monkeypatch.setattr(tempfile, "tempdir", None)

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "gettempdir", nowhere)
        have_temporary_directory(tmp_path)
    assert os.environ["TMPDIR"] == str(tmp_path)
    with tempfile.TemporaryDirectory() as made:
        assert Path(made).parent == tmp_path


def test_usual_temporary_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "before")
    have_temporary_directory(tmp_path)
    assert os.environ["TMPDIR"] == "before"


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    disk, root = tmp_path / "disk", tmp_path / "root"
    (disk / "deep").mkdir(parents=True)
    (root / "b").mkdir(parents=True)
    for file in (disk / "deep" / "y", disk / "x", root / "b" / "z", root / "a"):
        file.touch()
    (root / "linked").symlink_to(disk)
    (disk / "deep" / "circle").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "gone")
    errors: list[OSError] = []
    assert list(walk_folders(root, errors.append)) == [
        (root, ["a", "nowhere"]),
        (root / "b", ["z"]),
        (root / "linked", ["x"]),
        (root / "linked" / "deep", ["y"]),
    ]
    assert errors == []


def test_folders_that_cannot_be_read_are_told_of(tmp_path: Path) -> None:
    errors: list[OSError] = []
    assert list(walk_folders(tmp_path / "gone", errors.append)) == []
    assert [error.filename for error in errors] == [str(tmp_path / "gone")]


@pytest.fixture
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to run under a number that owns nothing, and has no account."""
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 7)


@pytest.mark.usefixtures("somebody_else")
def test_a_directory_of_another_user_is_said_to_be_one(tmp_path: Path) -> None:
    owner = tmp_path.owner()
    denied, full = PermissionError(13, "Permission denied"), OSError(28, "No space left on device")
    whose = f"belongs to {owner}, and this is user 2147483641"
    given = f"it {whose}: give it to this user (chown -R, as after a start with sudo), or "
    assert owner_hint(tmp_path) == owner_hint(tmp_path, denied) == given
    missing = tmp_path / "runs" / "spring"
    assert owner_hint(missing, denied) == f"{tmp_path} {whose}; "
    assert owner_hint(tmp_path, full) == ""


def test_nothing_is_said_of_an_owner_who_is_this_user(tmp_path: Path) -> None:
    assert owner_hint(tmp_path) == ""


def test_what_cannot_be_looked_at_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file")
    assert not is_there(tmp_path / "other")
    assert not is_there(tmp_path / "file" / "below")
    with pytest.raises(OSError, match="File name too long"):
        is_there(tmp_path / ("a" * 5000))


def test_a_base_directory_counts_if_it_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert xdg_directory("XDG_STATE_HOME") is None
    for path, expected in (("", None), ("~/state", None), ("state", None), ("/state", Path("/state"))):
        monkeypatch.setenv("XDG_STATE_HOME", path)
        assert xdg_directory("XDG_STATE_HOME") == expected
