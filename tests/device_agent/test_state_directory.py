"""Which directories an agent takes for its state, and what it says of the others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from device_agent.state_directory import STATE_FORMAT, claim_state_directory
from fedlp_edge.errors import StorageError


def test_a_new_directory_gets_the_format_number_and_is_taken_again(tmp_path: Path) -> None:
    claim_state_directory(tmp_path / "state").close()
    assert (tmp_path / "state" / "format").read_text() == f"{STATE_FORMAT}\n"
    (tmp_path / "state" / "outbox").mkdir()
    claim_state_directory(tmp_path / "state").close()


def test_files_of_somebody_else_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    claim_state_directory(tmp_path).close()


@pytest.mark.parametrize("entry", ["outbox", "personal", "models"])
def test_state_without_a_number_is_refused_with_what_to_do(tmp_path: Path, entry: str) -> None:
    (tmp_path / entry).mkdir()
    with pytest.raises(StorageError, match=r"format none; .* name another --state, or remove the directory") as caught:
        claim_state_directory(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "format").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (b"1\n", "another version of the agent .* or remove the directory"),
        (b"99\n", "a later version of the agent .* update this agent, or name another --state$"),
        (b"", "another version of the agent"),
        (b"\xff\xfe", "another version of the agent"),
    ],
)
def test_state_with_another_number_is_refused_and_left_as_it_is(tmp_path: Path, number: bytes, words: str) -> None:
    (tmp_path / "format").write_bytes(number)
    with pytest.raises(StorageError, match=words):
        claim_state_directory(tmp_path)
    assert (tmp_path / "format").read_bytes() == number


def test_a_refused_directory_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("1\n")
    for _ in range(2):
        with pytest.raises(StorageError, match="another version"):
            claim_state_directory(tmp_path)


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    lock = claim_state_directory(tmp_path)
    with pytest.raises(StorageError, match="another agent is running there"):
        claim_state_directory(tmp_path)
    lock.close()


def test_a_file_system_without_links_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Path) -> None:  # as the kernel answers on FAT
        raise PermissionError(errno.EPERM, "Operation not permitted", str(paths[0]))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match=r"has no links \(FAT, a network share\).* with --state"):
        claim_state_directory(tmp_path / "state")
    monkeypatch.undo()
    claim_state_directory(tmp_path / "state").close()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["format", "lock"]
