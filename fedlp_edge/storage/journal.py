"""This module journals the coordinator's decisions, so that a killed coordinator can continue its run.

The journal is one SQLite file in write-ahead mode. A round is journaled when it opens (devices, depths, rates and
weights), every admitted update when its bytes are in the spool, and the round again when it is committed. So a restart
repeats no decision and requests no update that has arrived.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember, OpenRound
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.errors import OperatorError, StorageError

VERSION = 2
"""Version of the schema below and of the encodings in its columns. It increases with every change that an earlier or
later version could not read; journals without a number are version 1."""

MAX_PATH_BYTES = 504
"""Longest path that SQLite opens, which needs 8 bytes more for the files beside it; beyond, it gives no reason."""

_PATIENCE_SECONDS = 1.0
"""Seconds for which somebody who reads beside the coordinator waits for a lock."""

_LACKS_THE_INDEX = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
"""What SQLite says where it cannot read a journal beside the coordinator: of a read-only medium, of a file system
without shared memory, and there of a journal that the coordinator has open."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS devices (
    device TEXT PRIMARY KEY, plan BLOB NOT NULL, basis TEXT NOT NULL, ready INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS class_names (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS agreed_columns (kind TEXT PRIMARY KEY, columns BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS broadcast (id INTEGER PRIMARY KEY CHECK (id = 1), encoding TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    round INTEGER PRIMARY KEY, capacity INTEGER NOT NULL, cohort BLOB NOT NULL, summary BLOB);
CREATE TABLE IF NOT EXISTS updates (
    round INTEGER NOT NULL, device TEXT NOT NULL, accepted INTEGER NOT NULL, digest TEXT NOT NULL,
    report BLOB NOT NULL, PRIMARY KEY (round, device));
CREATE TABLE IF NOT EXISTS answers (round INTEGER PRIMARY KEY, answers BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS findings (device TEXT PRIMARY KEY, model TEXT NOT NULL, finding BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS data_facts (device TEXT PRIMARY KEY, facts BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fitness (device TEXT PRIMARY KEY, basis TEXT NOT NULL, fitness BLOB NOT NULL);
"""


class UpdateRow(msgspec.Struct, frozen=True):
    """The coordinator's decision about one device's update of one round.

    Attributes:
        accepted: Whether the update was admitted.
        digest: Digest of the update's bytes.
        report: The encoded offer of an admitted update; the reason of a refused one.
    """

    round: int
    device: str
    accepted: bool
    digest: str
    report: bytes


class Journal:
    """The journal of one run.

    Args:
        path: SQLite file, named in errors.
        db: Connection to the file, which has the tables of this version.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a journal, which is made if it is missing.

        Args:
            path: SQLite file.

        Raises:
            OperatorError: Another version of FedLP Edge made the file.
            StorageError: The file is not a journal, or cannot be written.
        """
        if (length := len(os.fsencode(path.absolute()))) > MAX_PATH_BYTES:
            raise StorageError(
                f"cannot use {path} as the journal: its whole path has {length} bytes, and SQLite takes "
                f"{MAX_PATH_BYTES} at most; choose a directory with a shorter one"
            )
        try:
            db = _connect(path)
        except sqlite3.Error as error:
            raise StorageError(f"cannot use {path} as the journal: {error}") from error
        return cls(path, db)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    # Devices

    def put_device(self, device: str, plan: Plan, basis: str, *, ready: bool) -> None:
        """Records a device's plan, the basis of the plan, and whether the device is ready."""
        self._write("REPLACE INTO devices VALUES (?, ?, ?, ?)", (device, _pack(plan), basis, ready))

    def plans(self) -> dict[str, tuple[Plan, str]]:
        """Returns plan and basis by device."""
        rows = self._db.execute("SELECT device, plan, basis FROM devices")
        return {device: (msgspec.msgpack.decode(plan, type=Plan), basis) for device, plan, basis in rows}

    def ready_devices(self) -> frozenset[str]:
        """Returns the devices that were ready when the journal was last written."""
        return frozenset(device for (device,) in self._db.execute("SELECT device FROM devices WHERE ready"))

    def put_fitness(self, device: str, basis: str, fitness: Fitness) -> None:
        """Records a device's recent failures and the basis they belong to; a device without failures is deleted."""
        if fitness == Fitness():
            self._write("DELETE FROM fitness WHERE device = ?", (device,))
        else:
            self._write("REPLACE INTO fitness VALUES (?, ?, ?)", (device, basis, _pack(fitness)))

    def fitness(self) -> dict[str, tuple[str, Fitness]]:
        """Returns basis and fitness of the devices that failed recently."""
        rows = self._db.execute("SELECT device, basis, fitness FROM fitness")
        return {device: (basis, msgspec.msgpack.decode(packed, type=Fitness)) for device, basis, packed in rows}

    def put_broadcast(self, encoding: BroadcastEncoding) -> None:
        """Records the encoding in which the model travels to all devices from the first round on."""
        self._write("REPLACE INTO broadcast VALUES (1, ?)", (encoding,))

    def broadcast(self) -> BroadcastEncoding | None:
        """Returns the encoding of the broadcast; None if it was not chosen yet."""
        row = self._db.execute("SELECT encoding FROM broadcast").fetchone()
        return None if row is None else msgspec.convert(row[0], BroadcastEncoding)

    # Classes

    def put_class_names(self, names: tuple[str, ...]) -> None:
        """Records the number of each class in the fleet; numbers that were given before do not change."""
        for number, name in enumerate(names):
            self._write("INSERT OR IGNORE INTO class_names VALUES (?, ?)", (number, name))

    def class_names(self) -> tuple[str, ...]:
        """Returns the class names by number; empty if none were agreed yet."""
        return tuple(name for (name,) in self._db.execute("SELECT name FROM class_names ORDER BY number"))

    def put_columns(self, kind: str, columns: ColumnSums) -> None:
        """Records the statistics that the fleet has agreed on of columns of a kind, such as ``features``."""
        self._write("REPLACE INTO agreed_columns VALUES (?, ?)", (kind, _pack(columns)))

    def columns(self, kind: str) -> ColumnSums | None:
        """Returns the statistics of columns of a kind; None if none were agreed yet."""
        row = self._db.execute("SELECT columns FROM agreed_columns WHERE kind = ?", (kind,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=ColumnSums)

    # Data

    def put_data_facts(self, device: str, facts: DataFacts) -> None:
        """Records what a device says of its samples."""
        self._write("REPLACE INTO data_facts VALUES (?, ?)", (device, _pack(facts)))

    def data_facts(self) -> dict[str, DataFacts]:
        """Returns what devices said of their samples, by device."""
        rows = self._db.execute("SELECT device, facts FROM data_facts ORDER BY device")
        return {device: msgspec.msgpack.decode(packed, type=DataFacts) for device, packed in rows}

    # Final models

    def put_finding(self, device: str, model: str, finding: bytes) -> None:
        """Records what a device found about its final model."""
        self._write("REPLACE INTO findings VALUES (?, ?, ?)", (device, model, finding))

    def findings(self, model: str) -> dict[str, bytes]:
        """Returns what devices found about the final model with a digest, by device."""
        rows = self._db.execute("SELECT device, finding FROM findings WHERE model = ? ORDER BY device", (model,))
        return dict(rows.fetchall())

    # Rounds

    def open_round(self, round: int, capacity: int, cohort: tuple[CohortMember, ...]) -> None:
        """Records an opened round, or its extended cohort."""
        self._write("REPLACE INTO rounds VALUES (?, ?, ?, NULL)", (round, capacity, _pack(cohort)))

    def unfinished_round(self) -> OpenRound | None:
        """Returns the round that was open when the coordinator stopped; None if there is none."""
        row = self._db.execute("SELECT round, cohort, capacity FROM rounds WHERE summary IS NULL").fetchone()
        if row is None:
            return None
        cohort = msgspec.msgpack.decode(row[1], type=tuple[CohortMember, ...])
        return OpenRound(row[0], cohort, row[2])

    def places(self, round: int) -> tuple[CohortMember, ...]:
        """Returns the cohort of a round; empty if the round was not opened."""
        row = self._db.execute("SELECT cohort FROM rounds WHERE round = ?", (round,)).fetchone()
        return msgspec.msgpack.decode(row[0], type=tuple[CohortMember, ...]) if row else ()

    def commit_round(self, round: int, summary: bytes) -> None:
        """Records that a round is committed."""
        self._write("UPDATE rounds SET summary = ? WHERE round = ?", (summary, round))

    def summaries(self) -> Iterator[bytes]:
        """Yields the summaries of the committed rounds, from first to last, read one by one."""
        for (summary,) in self._db.execute("SELECT summary FROM rounds WHERE summary IS NOT NULL ORDER BY round"):
            yield summary

    def put_answers(self, round: int, answers: bytes, kept: Collection[int] = ()) -> None:
        """Records how the model of a round answered, and deletes that of earlier rounds.

        Args:
            round: Number of the round.
            answers: The encoded answers.
            kept: Numbers of earlier rounds whose answers stay.
        """
        for earlier in self._db.execute("SELECT round FROM answers").fetchall():
            if earlier[0] not in kept:
                self._write("DELETE FROM answers WHERE round = ?", earlier)
        self._write("REPLACE INTO answers VALUES (?, ?)", (round, answers))

    def answers(self, round: int) -> bytes | None:
        """Returns how the model of a round answered; None if that is not recorded."""
        row = self._db.execute("SELECT answers FROM answers WHERE round = ?", (round,)).fetchone()
        return None if row is None else bytes(row[0])

    # Updates

    def put_update(self, row: UpdateRow) -> None:
        """Records the decision about an update; an earlier decision stays."""
        self._write("INSERT OR IGNORE INTO updates VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(row))

    def overrule_update(self, row: UpdateRow) -> None:
        """Replaces the decision about an update, if an admitted one proves implausible beside the rest of its round."""
        self._write("INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(row))

    def drop_update(self, round: int, device: str) -> None:
        """Deletes the decision about an update whose bytes are lost."""
        self._write("DELETE FROM updates WHERE round = ? AND device = ?", (round, device))

    def updates(self, round: int) -> list[UpdateRow]:
        """Returns all decisions of a round, ordered by device."""
        rows = self._db.execute("SELECT * FROM updates WHERE round = ? ORDER BY device", (round,))
        return [UpdateRow(r, device, bool(accepted), digest, report) for r, device, accepted, digest, report in rows]

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise StorageError(f"cannot write the journal {self._path}: {error}; is the disk full?") from error


def _pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def agreed_columns(path: Path, kind: str) -> ColumnSums | None:
    """Returns the statistics of columns that a run has agreed on, without changing its journal; None without any.

    Args:
        path: Journal of the run, which may be in use or missing.
        kind: ``features`` or ``targets``.
    """
    rows = _rows_beside(path, "SELECT columns FROM agreed_columns WHERE kind = ?", (kind,))
    return msgspec.msgpack.decode(rows[0][0], type=ColumnSums) if rows else None


def agreed_class_names(path: Path) -> tuple[str, ...]:
    """Returns the names of classes, labels or targets that a run has agreed on, by number; empty without any.

    Args:
        path: Journal of the run, which may be in use or missing; it is not changed.
    """
    return tuple(str(name) for (name,) in _rows_beside(path, "SELECT name FROM class_names ORDER BY number"))


def reported_data_facts(path: Path) -> tuple[DataFacts, ...]:
    """Returns what the devices of a run have said of their samples.

    Args:
        path: Journal of the run, which may be in use or missing; it is not changed.
    """
    rows = _rows_beside(path, "SELECT facts FROM data_facts ORDER BY device")
    return tuple(msgspec.msgpack.decode(packed, type=DataFacts) for (packed,) in rows)


class _ToldRanges(msgspec.Struct):
    """What of a device's finding about its final model is needed to make int8 files."""

    ranges: TensorRanges = ()


def told_ranges(path: Path, model: str) -> dict[str, TensorRanges]:
    """Returns the ranges of activations that devices have told of a final model, by device.

    Args:
        path: Journal of the run, which may be in use or missing; it is not changed.
        model: Digest of the final model.
    """
    rows = _rows_beside(path, "SELECT device, finding FROM findings WHERE model = ? ORDER BY device", (model,))
    told = {device: msgspec.msgpack.decode(finding, type=_ToldRanges).ranges for device, finding in rows}
    return {device: ranges for device, ranges in told.items() if ranges}


def knows_rounds(path: Path) -> bool:
    """Returns whether a journal holds rounds; one that was copied without its write-ahead file may hold none.

    Args:
        path: Journal of the run, which may be in use or missing; it is not changed.
    """
    return bool(_rows_beside(path, "SELECT round FROM rounds LIMIT 1"))


def write_ahead_path(path: Path) -> Path:
    """Returns the path of the file that holds what a stopped or killed coordinator has written last."""
    return path.with_name(f"{path.name}-wal")


def _rows_beside(path: Path, query: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns rows of a journal that may be in use; none of a missing one, or of an earlier version without the table.

    Raises:
        StorageError: The file is damaged, no journal, or of a later version, of which nobody knows what it lacks here.
    """
    if not path.exists():
        return []
    try:
        try:
            return _rows(path, path, query, values, "?mode=ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _LACKS_THE_INDEX:
                raise
        # Where nothing can be written, or no memory is shared, SQLite lacks the index of the write-ahead file.
        with tempfile.TemporaryDirectory(prefix="fedlp-journal-") as temporary:
            for file in filter(Path.exists, (path, write_ahead_path(path))):
                shutil.copyfile(file, Path(temporary) / file.name)
            return _rows(Path(temporary) / path.name, path, query, values)
    except sqlite3.Error as error:
        if str(error).startswith("no such table"):
            return []
        raise StorageError(f"cannot read the journal {path}: {error}; copy it again, or name the run itself") from None
    except OSError as error:
        raise StorageError(f"cannot read the journal {path}: {error.strerror}") from None


def _rows(path: Path, original: Path, query: str, values: tuple[str, ...], options: str = "") -> list[tuple[Any, ...]]:
    uri = f"{path.absolute().as_uri()}{options}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_SECONDS)) as db:
        if (found := _version_of(db)) > VERSION:
            raise StorageError(f"{_of_another_version(original, found)}: update FedLP Edge here, or use that version")
        return db.execute(query, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    """Returns a connection to a journal in write-ahead mode, whose tables are made if they are missing.

    SQLite keeps the index of the write-ahead file in memory that processes share, which some file systems do not have:
    many of FUSE, shares between a machine and its host. There the connection is the only one that may have the journal
    open, and keeps the index to itself; the lock on the run directory sees to the same.

    Raises:
        OperatorError: Another version of FedLP Edge made the file.
        sqlite3.Error: The file cannot be used either way.
    """
    try:
        return _connect_in_mode(path, "NORMAL")
    except sqlite3.OperationalError as error:
        with contextlib.suppress(sqlite3.OperationalError):
            return _connect_in_mode(path, "EXCLUSIVE")
        raise error


def _connect_in_mode(path: Path, locking: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute(f"PRAGMA locking_mode={locking}")
        _refuse_other_versions(path, db)
        db.execute("PRAGMA journal_mode=WAL")
        # A power cut may lose the last rows; the coordinator then requests these updates again.
        db.execute("PRAGMA synchronous=NORMAL")
        # One transaction, since a schema without its number would be taken for that of an earlier version.
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _refuse_other_versions(path: Path, db: sqlite3.Connection) -> None:
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and (found := _version_of(db)) != VERSION:
        raise OperatorError(
            f"{_of_another_version(path, found)}: finish it with the version that made it, or name another directory "
            "with --out"
        )


def _version_of(db: sqlite3.Connection) -> int:
    [found] = db.execute("PRAGMA user_version").fetchone()
    return int(found)


def _of_another_version(path: Path, found: int) -> str:
    age = "an earlier" if found < VERSION else "a later"
    return (
        f"{path.parent} holds a run of {age} version of FedLP Edge (journal format {max(1, found)}, this version has "
        f"{VERSION})"
    )
