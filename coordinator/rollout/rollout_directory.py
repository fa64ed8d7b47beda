"""The directory of one roll-out: what was asked for, what has happened, where it stands, and what is wanted now."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import msgspec

from coordinator.rollout.file_choice import FileWishes
from fedlp_edge.core.rollout.rollout_events import JournaledEvent, RolloutPhase
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.errors import OperatorError, StorageError
from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import write_file
from fedlp_edge.system.locks import lock_file
from fedlp_edge.system.portable.file_access import PRIVATE, flush_to_disk, read_at
from fedlp_edge.wire.messages import ShadowFigures, ShadowRules

Word = Literal["pause", "resume", "abort"]
_Kind = TypeVar("_Kind")


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, as ``rollout.json`` keeps it.

    Attributes:
        run: Name of the roll-out on the wire.
        fleet: Name of the fleet.
        release: Name of the release.
        source: Directory of its files.
        config: File with the fleet's broker.
        settings: Groups and thresholds.
        wishes: Which files devices get.
        shadow: What a new model must do beside the old one.
        probation_seconds: Seconds for which a device watches the new model after the switch.
        devices: Devices that are meant; empty for all.
        canaries: Devices of the first group; empty to draw them.
        repository: Directory of the fleet's signed releases; empty if files are not signed.
        online_key: File of the key that says which device gets which release; empty if files are not signed.
    """

    run: str
    fleet: str
    release: str
    source: str
    config: str
    settings: RolloutSettings = RolloutSettings()
    wishes: FileWishes = FileWishes()
    shadow: ShadowRules = ShadowRules()
    probation_seconds: float = 10.0
    devices: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    repository: str = ""
    online_key: str = ""


class DeviceStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where one device stands.

    Attributes:
        group: Number of its group, from 1.
        file: Name of its file; empty as long as none was chosen.
        state: ``waiting``, ``away`` (not online), ``told``, or what the device has reported last.
        reason: Why it failed; empty otherwise.
        shadow: What its exam beside the old model found; None if there was none.
    """

    group: int
    file: str = ""
    state: str
    reason: str = ""
    shadow: ShadowFigures | None = None


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a roll-out stands, as ``status.json`` keeps it.

    Attributes:
        phase: Phase of the roll-out.
        reason: Why it stopped; empty otherwise.
        open_groups: Number of groups that have begun.
        groups: Number of all groups.
        devices: Where each device stands, by id.
        left_out: Why a device is in no group, by id.
    """

    phase: RolloutPhase
    reason: str = ""
    open_groups: int = 0
    groups: int = 0
    devices: dict[str, DeviceStanding] = {}
    left_out: dict[str, str] = {}


class RolloutDirectory:
    """The files of one roll-out; nothing is read or written before a method is called.

    Args:
        path: Path of the directory.

    Attributes:
        path: Path of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None

    @property
    def self_tests(self) -> Path:
        """Directory of the self-tests that were made for it."""
        return self.path / "self_tests"

    @property
    def exists(self) -> bool:
        """Whether a roll-out was begun there."""
        return self._plan.is_file()

    @property
    def has_status(self) -> bool:
        """Whether ``status`` has something to read."""
        return self._status.is_file()

    @property
    def written_at(self) -> float:
        """When something was last written of a roll-out that was begun, as a time of the file system."""
        return max(path.stat().st_mtime for path in (self._plan, self._journal) if path.exists())

    def lock(self) -> bool:
        """Keeps other processes from carrying out this roll-out; False if one is at work.

        Raises:
            StorageError: The directory cannot be made or written to.
        """
        make_directory(self.path, "--out")
        try:
            self._lock = lock_file(self.path / "lock")
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}; name another directory with --out") from None
        return self._lock is not None

    def unlock(self) -> None:
        """Lets other processes carry it out."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def plan(self) -> RolloutPlan:
        """Reads what was asked for.

        Raises:
            OperatorError: There is no roll-out in the directory.
        """
        return self._read(self._plan, RolloutPlan)

    def put_plan(self, plan: RolloutPlan) -> None:
        """Writes what was asked for."""
        write_file(self._plan, [msgspec.json.format(msgspec.json.encode(plan), indent=2)])

    def status(self) -> RolloutStatus:
        """Reads where the roll-out stands.

        Raises:
            OperatorError: There is no roll-out in the directory, or nothing of it has begun.
        """
        return self._read(self._status, RolloutStatus)

    def put_status(self, status: RolloutStatus) -> None:
        """Writes where the roll-out stands."""
        write_file(self._status, [msgspec.json.encode(status)], durable=False)

    @property
    def phase(self) -> RolloutPhase:
        """Phase of the roll-out when a process last wrote it; running if none has."""
        return self.status().phase if self.has_status else "running"

    def begin_again(self, plan: RolloutPlan) -> None:
        """Sets aside the journal of a roll-out that is over, and writes what is asked for now.

        Raises:
            StorageError: The disk is full or failed.
        """
        number = next(number for number in itertools.count(1) if not self._earlier_journal(number).exists())
        try:
            self._journal.rename(self._earlier_journal(number))
            self._status.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._journal}: {error.strerror}") from None
        self.put_plan(plan)

    def events(self) -> list[JournaledEvent]:
        """Reads what has happened; a last line that a kill or a power cut has halved is left out.

        Raises:
            StorageError: The journal cannot be read, or a line in its middle is damaged.
        """
        try:
            lines = self._journal.read_bytes().splitlines(keepends=True) if self._journal.exists() else []
            events: list[JournaledEvent] = []
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    events.append(msgspec.json.decode(line, type=JournaledEvent))
                except msgspec.DecodeError as error:
                    raise StorageError(f"{self._journal}:{number}: {error}; name another directory") from None
        except OSError as error:
            raise StorageError(f"{self._journal}: {error.strerror}") from None
        return events

    def append(self, event: JournaledEvent) -> None:
        """Writes what has happened, which survives a power cut once this returns.

        Raises:
            StorageError: The disk is full or failed.
        """
        try:
            descriptor = os.open(self._journal, os.O_RDWR | os.O_CREAT | os.O_APPEND | PRIVATE, 0o600)
            try:
                self._end_whole(descriptor)
                os.write(descriptor, msgspec.json.encode(event) + b"\n")
                flush_to_disk(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"{self._journal}: {error.strerror}; make room there") from None

    def say(self, word: Word) -> None:
        """Leaves a word for the process that carries the roll-out out."""
        write_file(self._control, [word.encode()])

    def take_word(self) -> Word | None:
        """Takes the word that was left; None if there is none."""
        try:
            word = self._control.read_text(encoding="ascii", errors="replace").strip()
            self._control.unlink()
        except OSError:
            return None
        return word if word in ("pause", "resume", "abort") else None  # type: ignore[return-value]

    @staticmethod
    def _end_whole(descriptor: int) -> None:
        """Cuts off a last line that an earlier process has not finished."""
        size = os.fstat(descriptor).st_size
        tail = read_at(descriptor, 1 << 20, max(0, size - (1 << 20)))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)

    def _read(self, path: Path, kind: type[_Kind]) -> _Kind:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except OSError:
            raise OperatorError(
                f"{self.path} holds no roll-out; name the directory that fedlp deploy has told"
            ) from None
        except msgspec.DecodeError as error:
            raise StorageError(f"{path} cannot be read: {error}") from None

    @property
    def _plan(self) -> Path:
        return self.path / "rollout.json"

    @property
    def _status(self) -> Path:
        return self.path / "status.json"

    @property
    def _journal(self) -> Path:
        return self.path / "journal.jsonl"

    def _earlier_journal(self, number: int) -> Path:
        return self.path / f"journal-{number}.jsonl"

    @property
    def _control(self) -> Path:
        return self.path / "control"


def rollouts_in(directory: Path) -> list[RolloutDirectory]:
    """Returns the roll-outs that were begun in the directories of a directory, the one that was written to last first.

    Raises:
        StorageError: The directory cannot be read.
    """
    try:
        found = [RolloutDirectory(below) for below in directory.iterdir()] if directory.is_dir() else []
        return sorted((one for one in found if one.exists), key=lambda one: one.written_at, reverse=True)
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror}") from None
