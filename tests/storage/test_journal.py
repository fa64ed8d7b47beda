from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember, OpenRound
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.errors import OperatorError, StorageError
from fedlp_edge.storage.journal import (
    MAX_PATH_BYTES,
    VERSION,
    Journal,
    UpdateRow,
    agreed_class_names,
    agreed_columns,
    reported_data_facts,
    write_ahead_path,
)

PLACES = (CohortMember("a", 1, 0.5, 10, 10), CohortMember("b", 2, 1.0, 20, 20, replacement=True))


def reopened(path: Path) -> Journal:
    return Journal.open(path / "journal.sqlite")


def test_remembers_the_open_round_until_it_is_committed(tmp_path: Path) -> None:
    reopened(tmp_path).open_round(1, 60, PLACES)
    assert reopened(tmp_path).unfinished_round() == OpenRound(1, PLACES, 60)
    reopened(tmp_path).commit_round(1, b"one")
    assert reopened(tmp_path).unfinished_round() is None
    assert list(reopened(tmp_path).summaries()) == [b"one"]


def test_keeps_the_first_word_on_an_update(tmp_path: Path) -> None:
    first = UpdateRow(1, "a", True, "d1", b"report")
    reopened(tmp_path).put_update(first)
    reopened(tmp_path).put_update(UpdateRow(1, "a", False, "d2", b"too late"))
    assert reopened(tmp_path).updates(1) == [first]
    assert reopened(tmp_path).updates(2) == []
    reopened(tmp_path).drop_update(1, "a")
    assert reopened(tmp_path).updates(1) == []


def test_remembers_plans_and_who_was_ready(tmp_path: Path) -> None:
    plan = Plan(2, 0.5, "why", 1000, 1.5)
    journal = reopened(tmp_path)
    journal.put_device("a", plan, "basis", ready=True)
    journal.put_device("b", plan, "basis", ready=True)
    journal.put_device("b", plan, "basis", ready=False)
    assert reopened(tmp_path).plans() == {"a": (plan, "basis"), "b": (plan, "basis")}
    assert reopened(tmp_path).ready_devices() == {"a"}


def test_refuses_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(StorageError, match=r"journal\.sqlite"):
        reopened(tmp_path)


@pytest.mark.parametrize(("version", "words"), [(0, "an earlier version .* 1,"), (VERSION + 1, "a later version")])
def test_refuses_a_journal_of_another_version_with_one_line(tmp_path: Path, version: int, words: str) -> None:
    reopened(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(OperatorError, match=f"{words}.*finish it with the version that made it.*--out") as raised:
        reopened(tmp_path)
    assert "\n" not in str(raised.value)


def test_reads_nothing_beside_a_run_of_a_later_version(tmp_path: Path) -> None:
    journal = reopened(tmp_path)
    journal.put_class_names(("a", "b"))
    journal.close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StorageError, match=rf"{tmp_path} holds a run of a later version .*: update FedLP Edge here"):
        agreed_class_names(tmp_path / "journal.sqlite")


def test_takes_a_journal_that_was_cut_off_before_it_held_anything(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "journal.sqlite").execute("PRAGMA journal_mode=WAL")
    assert reopened(tmp_path).unfinished_round() is None


def test_agreed_columns_are_read_beside_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert agreed_columns(path, "features") is None
    journal = Journal.open(path)
    assert agreed_columns(path, "features") is None
    features = ColumnSums(names=("a",), count=3, mean=(1.5,), deviations=(2.0,))
    journal.put_columns("features", features)
    assert agreed_columns(path, "features") == journal.columns("features") == features


def test_names_and_data_are_read_beside_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert (agreed_class_names(path), reported_data_facts(path)) == ((), ())
    journal = Journal.open(path)
    journal.put_class_names(("nut", "bolt"))
    journal.put_data_facts("dev-1", DataFacts(labels=2))
    assert (agreed_class_names(path), reported_data_facts(path)) == (("nut", "bolt"), (DataFacts(labels=2),))


def test_journal_is_read_where_nothing_can_be_written_beside_it(tmp_path: Path) -> None:
    made, copy = tmp_path / "made", tmp_path / "copy"
    made.mkdir()
    copy.mkdir()
    journal = Journal.open(made / "journal.sqlite")
    journal.put_class_names(("nut", "bolt"))
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        (copy / name).write_bytes((made / name).read_bytes())
    (copy / "journal.sqlite-shm").mkdir()  # what SQLite cannot open, as on a read-only medium
    assert agreed_class_names(copy / "journal.sqlite") == ("nut", "bolt")
    assert sorted(path.name for path in copy.iterdir()) == [
        "journal.sqlite",
        "journal.sqlite-shm",
        "journal.sqlite-wal",
    ]


def test_a_damaged_journal_is_not_taken_for_one_that_knows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(StorageError, match=r"cannot read the journal .*journal\.sqlite: .*; copy it again"):
        agreed_class_names(path)


def test_a_path_that_is_too_long_for_sqlite_is_named_with_what_to_do(tmp_path: Path) -> None:
    end = len("/journal.sqlite")
    fits = tmp_path / ("b" * 200)
    fits /= "c" * (MAX_PATH_BYTES - end - len(str(fits)) - 1)
    fits.mkdir(parents=True)
    Journal.open(fits / "journal.sqlite").close()
    long = fits.with_name(fits.name + "c")
    long.mkdir()
    with pytest.raises(StorageError, match=r"its whole path has 505 bytes, and SQLite takes 504 at most; choose"):
        Journal.open(long / "journal.sqlite")


def without_shared_memory(journal: Path) -> Path:
    """Keeps SQLite from making the file that processes share, as file systems do that cannot share memory."""
    os.mkfifo(journal.parent / f"{journal.name}-shm")
    return journal


def test_journal_is_kept_where_processes_cannot_share_memory(tmp_path: Path) -> None:
    path = without_shared_memory(tmp_path / "journal.sqlite")
    journal = Journal.open(path)
    journal.open_round(1, 60, PLACES)
    journal.put_class_names(("cat", "dog"))

    assert agreed_class_names(path) == ("cat", "dog")  # beside the coordinator
    journal.close()
    assert Journal.open(path).unfinished_round() == OpenRound(1, PLACES, 60)


def test_journal_goes_on_after_a_kill_where_processes_cannot_share_memory(tmp_path: Path) -> None:
    path = without_shared_memory(tmp_path / "journal.sqlite")
    journal = Journal.open(path)
    journal.open_round(1, 60, PLACES)
    (tmp_path / "copy").mkdir()
    for file in (path, write_ahead_path(path)):
        shutil.copyfile(file, tmp_path / "copy" / file.name)

    copy = without_shared_memory(tmp_path / "copy" / path.name)
    assert Journal.open(copy).unfinished_round() == OpenRound(1, PLACES, 60)
