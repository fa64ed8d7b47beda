"""What stands under a file's name after a failure, and what the next start finds."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from fedlp_edge.system.files import (
    PARTIAL,
    bears_links,
    link_target,
    move_into_place,
    remove_partials,
    replace_link,
    replacing,
    why_not_written,
    write_file,
)


def write_half(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_replaces_the_old_file_in_one_step(tmp_path: Path, durable: bool, shared: bool) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with replacing(path, durable=durable, shared=shared) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_writes_parts_one_behind_the_other(tmp_path: Path) -> None:
    write_file(tmp_path / "f", [b"ab", memoryview(b"cd")])
    assert (tmp_path / "f").read_bytes() == b"abcd"


def test_next_start_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    for name in ("f", f"g{PARTIAL}", ".tmpaB3xYz", ".tmp-notes"):
        (tmp_path / name).write_bytes(b"")
    remove_partials(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp-notes", "f"]


def test_moves_over_what_stood_there(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "f").write_text("old")
    move_into_place(tmp_path / "new", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "new"


def test_points_a_link_elsewhere_though_a_killed_process_left_a_partial_one(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / f"current{PARTIAL}").symlink_to("nowhere")
    for target in ("first", "second"):
        (tmp_path / target).write_text(target)
        replace_link(link, target)
        assert link.read_text() == target


def test_nothing_else_moves_files_into_place() -> None:
    """A second writer would promise something else of a kill and of a power cut."""
    root = Path(__file__).parents[2]
    movers = re.compile(r"\bos\.(replace|rename)\b|\bshutil\.move\b|\.part\"")
    found = {
        str(path.relative_to(root))
        for package in ("fedlp_edge", "coordinator", "device_agent")
        for path in (root / package).rglob("*.py")
        if movers.search(path.read_text("utf-8"))
    }
    assert found == {"fedlp_edge/system/files.py"}


def test_disk_that_is_full_in_the_middle_of_a_file_is_told_with_its_path(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a'"),
        replacing(tmp_path / "a"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_link_is_a_second_name_where_this_user_may_make_no_symbolic_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: str) -> None:  # as Windows answers
        raise OSError(errno.EINVAL, "A required privilege is not held by the client", str(self))

    for version in ("1", "2"):
        (tmp_path / "versions" / version).mkdir(parents=True)
        (tmp_path / "versions" / version / "net.onnx").write_text(version)
    link = tmp_path / "current.onnx"
    replace_link(link, "versions/1/net.onnx")
    assert link_target(link) == "versions/1/net.onnx"
    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert bears_links(tmp_path)
    for version in ("2", "2", "1"):
        replace_link(link, f"versions/{version}/net.onnx")
        assert (link.read_text(), link_target(link)) == (version, f"versions/{version}/net.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current.onnx", "versions"]


def test_file_that_is_no_link_has_no_target(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    assert (link_target(tmp_path / "net.onnx"), link_target(tmp_path / "missing.onnx")) == ("", "")


def test_what_keeps_a_file_from_being_written_is_told_in_the_words_of_the_system() -> None:
    said = 'Error while serializing: I/O error: No space left on device (os error 28) at path "/s/.tmpqkOL0q"'
    assert why_not_written(ValueError(said)) == "No space left on device; make room there"
    assert why_not_written(OSError(28, "No space left on device", "/s/x")) == "No space left on device; make room there"
    assert why_not_written(OSError(30, "Read-only file system")) == "Read-only file system"
    assert why_not_written(ValueError("Invalid dtype")) == "Invalid dtype"
