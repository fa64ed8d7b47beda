"""Model values that stay on a device from round to round: one file for every round that left some.

These are exit heads that never leave the device (``head_mode = "personal"``), and units between two exchanges
(``exchange_every``). A round may be done again, since a training was cut off or its update was lost, and must then give
the same update. So a round never writes the file that it starts from: what round 7 leaves has a file of its own, and
round 7 done again starts from what the round before it left, as it did the first time.
"""

from __future__ import annotations

import re
from pathlib import Path

from fedlp_edge.errors import StorageError
from fedlp_edge.system.files import write_file

_NAME = re.compile(r"(?P<owner>.+)\.round-(?P<round>\d+)\.safetensors\Z")


class DeviceValues:
    """The files of values in one directory, by owner and round.

    An owner is whatever has a succession of values of its own: a virtual device of a simulation; on a real device, the
    pair of run and depth.

    Args:
        directory: made by ``write``; whoever lets others write the files makes it before.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listed: dict[str, set[int]] | None = None

    def path(self, owner: str, round: int) -> Path:
        """Where the values are that a round leaves, or will be once somebody has written them there."""
        self._rounds.setdefault(owner, set()).add(round)
        return self._path(owner, round)

    def before(self, owner: str, round: int) -> int | None:
        """The round whose values this round starts from; None if no earlier round left any."""
        earlier = (number for number in self._rounds.get(owner, ()) if number < round)
        return next((number for number in sorted(earlier, reverse=True) if self._path(owner, number).exists()), None)

    def read(self, owner: str, round: int) -> bytes:
        """The values that a round left.

        Raises:
            StorageError: they cannot be read.
        """
        path = self._path(owner, round)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None

    def write(self, owner: str, round: int, values: bytes) -> None:
        """Keeps the values that a round left; a power cut may cost them, and the round is then done again.

        Raises:
            StorageError: they cannot be written.
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

    def prune_all(self, round: int) -> None:
        """Removes every owner's values that no round after this one can start from."""
        for owner in self._rounds:
            self.prune(owner, round)

    @property
    def _rounds(self) -> dict[str, set[int]]:
        """Rounds that left values, or for which ``path`` was asked, by owner; the directory is listed once."""
        if self._listed is None:
            self._listed = {}
            for path in self._directory.glob("*.safetensors"):
                if name := _NAME.match(path.name):
                    self._listed.setdefault(name["owner"], set()).add(int(name["round"]))
        return self._listed

    def _path(self, owner: str, round: int) -> Path:
        return self._directory / f"{owner}.round-{round}.safetensors"
