"""The exit heads that never leave the device (``heads = "personal"``), one file for each round that made one.

A training that was cut off, or whose update was lost, is done again and must give the same update. So a round
never writes what it starts from: the head that round 7 made stays in a file of its own, and round 7 done again
starts where it started the first time, from what the round before it made.
"""

from __future__ import annotations

import re
from pathlib import Path

from device_agent.files import make_directory

_NAME = re.compile(r"\.round-(\d+)\.safetensors\Z")


class PersonalHeads:
    """The heads in one device's state directory.

    Args:
        directory: made if missing.

    Raises:
        StorageError: it cannot be made or written to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = make_directory(directory)

    def before(self, run: str, depth: int, round: int) -> Path | None:
        """The head that this round starts from; None if no earlier round made one. Older ones are removed."""
        earlier = sorted((made, path) for made, path in self._made(run, depth) if made < round)
        for _, path in earlier[:-1]:
            path.unlink()
        return earlier[-1][1] if earlier else None

    def after(self, run: str, depth: int, round: int) -> Path:
        """Where the head goes that this round makes."""
        return self._directory / f"{run}-depth-{depth}.round-{round}.safetensors"

    def _made(self, run: str, depth: int) -> list[tuple[int, Path]]:
        stem = f"{run}-depth-{depth}"
        found = ((_NAME.search(path.name), path) for path in self._directory.iterdir())
        return [(int(name[1]), path) for name, path in found if name and path.name[: name.start()] == stem]
