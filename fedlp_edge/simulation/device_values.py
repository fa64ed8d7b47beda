"""What stays on the virtual devices from one round to the next: personal heads, on disk, so that memory stays flat.

A round that is done again must start from what it started from the first time. So a round never replaces what it
read: what round 7 made lies beside what it started from, until round 7 is committed.
"""

from __future__ import annotations

import re
from pathlib import Path

from fedlp_edge.errors import StorageError

_NAME = re.compile(r"(?P<device>.+)\.round-(?P<round>\d+)\.safetensors\Z")


class VirtualDeviceValues:
    """The devices' own values, one file for each device and round that left some.

    Args:
        directory: made when something is first kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, list[int]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            if name := _NAME.match(path.name):
                self._made.setdefault(name["device"], []).append(int(name["round"]))

    def before(self, device: str, round: int) -> int:
        """The last round before this one that left something on a device; 0 if none did."""
        return max((made for made in self._made.get(device, ()) if made < round), default=0)

    def read(self, device: str, round: int) -> bytes:
        """What a round left on a device.

        Raises:
            StorageError: it cannot be read.
        """
        path = self._path(device, round)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None

    def keep(self, device: str, round: int, values: bytes) -> None:
        """Keeps what a round left on a device.

        Raises:
            StorageError: it cannot be written.
        """
        path = self._path(device, round)
        partial = path.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(values)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; make room on the disk") from None
        made = self._made.setdefault(device, [])
        if round not in made:
            made.append(round)

    def committed(self, round: int) -> None:
        """Removes what no round after this one can start from."""
        for device, made in self._made.items():
            kept = max((number for number in made if number <= round), default=0)
            for number in [number for number in made if number < kept]:
                self._path(device, number).unlink(missing_ok=True)
                made.remove(number)

    def _path(self, device: str, round: int) -> Path:
        return self._directory / f"{device}.round-{round}.safetensors"
