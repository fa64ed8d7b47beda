"""This module stores model values that a device withholds from round to round, in one file per round.

These are personal exit heads (``head_mode = "personal"``), units between two exchanges (``exchange_every``), and, in
a directory of their own, residuals of encoded updates (``error_feedback``). A
round may be repeated, since training was interrupted or the update was lost, and must then give the same update. So a
round never overwrites the file that it starts from: round 7 writes its own file, and a repeated round 7 starts from the
file of the round before it, as it did the first time.
"""

from __future__ import annotations

import re
from pathlib import Path

from fedlp_edge.errors import StorageError
from fedlp_edge.system.files import remove_partials, write_file

_NAME = re.compile(r"(?P<owner>.+)\.round-(?P<round>\d+)\.safetensors\Z")


class DeviceValues:
    """The files of withheld values in one directory, by owner and round.

    An owner is a virtual device in a simulation, and the pair of run and depth on a real device.

    Args:
        directory: Directory, made by ``write``; a caller that writes the files itself makes it before.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listed: dict[str, set[int]] | None = None

    def path(self, owner: str, round: int) -> Path:
        """Returns the path of the values after a round, whether or not they are written already."""
        self._rounds.setdefault(owner, set()).add(round)
        return self._path(owner, round)

    def before(self, owner: str, round: int) -> int | None:
        """Returns the number of the round whose values this round starts from; None if no earlier round left any."""
        earlier = (number for number in self._rounds.get(owner, ()) if number < round)
        return next((number for number in sorted(earlier, reverse=True) if self._path(owner, number).exists()), None)

    def read(self, owner: str, round: int) -> bytes:
        """Reads the values that a round left, as safetensors bytes.

        Raises:
            StorageError: The file cannot be read.
        """
        path = self._path(owner, round)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None

    def write(self, owner: str, round: int, values: bytes) -> None:
        """Writes the values that a round left; a power cut may lose them, and the round is then repeated.

        Raises:
            StorageError: The file cannot be written.
        """
        path = self.path(owner, round)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_file(path, [values], durable=False)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; make room on the disk") from None

    def prune(self, owner: str, round: int) -> None:
        """Removes an owner's values that no round after this one can start from."""
        latest = self.before(owner, round + 1)
        if latest is None:
            return
        rounds = self._rounds[owner]
        for number in [number for number in rounds if number < latest]:
            self._path(owner, number).unlink(missing_ok=True)
            rounds.remove(number)

    def forget_after(self, owner: str, round: int) -> None:
        """Removes an owner's values of later rounds, which an earlier run of the same name has left."""
        for number in [number for number in self._rounds.get(owner, ()) if number > round]:
            self._path(owner, number).unlink(missing_ok=True)
            self._rounds[owner].remove(number)

    def forget_others(self, owner: str) -> None:
        """Removes the values of every other owner."""
        for other in [other for other in self._rounds if other != owner]:
            for number in self._rounds.pop(other):
                self._path(other, number).unlink(missing_ok=True)

    def prune_all(self, round: int) -> None:
        """Removes every owner's values that no round after this one can start from."""
        for owner in self._rounds:
            self.prune(owner, round)

    @property
    def _rounds(self) -> dict[str, set[int]]:
        """Returns the rounds that left values, or whose ``path`` was requested, by owner; lists the directory once.

        What a killed process has left half-written there is removed before.
        """
        if self._listed is None:
            remove_partials(self._directory)
            self._listed = {}
            for path in self._directory.glob("*.safetensors"):
                if name := _NAME.match(path.name):
                    self._listed.setdefault(name["owner"], set()).add(int(name["round"]))
        return self._listed

    def _path(self, owner: str, round: int) -> Path:
        return self._directory / f"{owner}.round-{round}.safetensors"
