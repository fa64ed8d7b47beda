"""What stays on the device from round to round, one file for each round that made some.

These are the exit heads that never leave it (``heads = "personal"``), and units between two exchanges
(``exchange_every``). A training that was cut off, or whose update was lost, is done again and must give the same
update. So a round never writes what it starts from: what round 7 made stays in a file of its own, and round 7 done
again starts where it started the first time, from what the round before it made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.system.state_directory import make_directory

_NAME = re.compile(r"\.round-(\d+)\.safetensors\Z")


@dataclass(frozen=True)
class ValuesOfRound:
    """The values that a round left on the device."""

    round: int
    path: Path


class DeviceValues:
    """The values in one device's state directory.

    Args:
        directory: made if missing.

    Raises:
        StorageError: it cannot be made or written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = make_directory(directory)

    def before(self, run: str, depth: int, round: int) -> ValuesOfRound | None:
        """What this round starts from; None if no earlier round left anything. Older files are removed."""
        earlier = sorted((m for m in self._made(run, depth) if m.round < round), key=lambda made: made.round)
        for made in earlier[:-1]:
            made.path.unlink()
        return earlier[-1] if earlier else None

    def after(self, run: str, depth: int, round: int) -> Path:
        """Where the values go that this round makes."""
        return self._directory / f"{run}-depth-{depth}.round-{round}.safetensors"

    def _made(self, run: str, depth: int) -> list[ValuesOfRound]:
        stem = f"{run}-depth-{depth}"
        found = ((_NAME.search(path.name), path) for path in self._directory.iterdir())
        return [ValuesOfRound(int(name[1]), path) for name, path in found if name and path.name[: name.start()] == stem]
