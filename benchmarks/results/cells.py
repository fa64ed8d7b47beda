"""A table of many experiments, computed cell by cell: what is done is kept, so hours of work go on where they stopped.

One JSON object a line and cell, with its ``cell`` (a text that names it) first. A line that was cut off by a kill is
computed again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlp_edge.reporting.summary import Summary

Result = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large every experiment of a table is.

    Attributes:
        data: trained on, and its test split judged on.
        input: shape of one sample.
        devices: of the fleet.
        cohort: devices of a round, unless a scheme says otherwise.
        rounds: of a run, or of the one whose cost is the budget of all.
        reported: rounds that are averaged: the last ones of a run, or of what a budget pays for.
        every: rounds between two evaluations before those.
        limit: samples a device at most; 0 for its whole share.
    """

    data: str = "fashion-mnist"
    input: tuple[int, ...] = (1, 28, 28)
    devices: int = 100
    cohort: int = 10
    rounds: int = 60
    reported: int = 5
    every: int = 10
    limit: int = 0


def silent_rounds(summary: Summary, units: Iterable[str]) -> dict[str, int]:
    """By unit, rounds in which nobody sent it; units that were always sent are left out."""
    silent = {unit: sum(not entry.coverage.get(unit) for entry in summary.rounds) for unit in units}
    return {unit: count for unit, count in silent.items() if count}


def several(count: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{count} {what}" + ("" if count == 1 else "s")


class CellStore:
    """The finished cells in one file.

    Args:
        path: made with its directory if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, Result] = read_cells(path) if path.exists() else {}

    def add(self, cell: str, result: Mapping[str, Any]) -> Result:
        """Keeps a finished cell."""
        self.done[cell] = {"cell": cell, **result}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            # A line that a kill cut off must not swallow this one.
            if file.tell() and _last_byte(self._path) != b"\n":
                file.write(b"\n")
            file.write(json.dumps(self.done[cell]).encode() + b"\n")
        return self.done[cell]

    def fill(self, cells: Iterable[str], compute: Callable[[str], Mapping[str, Any]]) -> None:
        """Computes what is missing, in order, and says after each cell how long the rest will take."""
        missing = [cell for cell in cells if cell not in self.done]
        began = time.monotonic()
        for number, cell in enumerate(missing, start=1):
            self.add(cell, compute(cell))
            spent = time.monotonic() - began
            left = spent / number * (len(missing) - number)
            print(f"{number}/{len(missing)} {cell}: {spent / 60:.1f} min spent, {left / 60:.0f} min left", flush=True)


def read_cells(path: Path) -> dict[str, Result]:
    """The finished cells of a file, by name; the last of several with one name counts."""
    cells = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        cells[result["cell"]] = result
    return cells


def write_cells(path: Path, cells: Mapping[str, Result]) -> None:
    """Writes finished cells in the order of their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(cells[cell]) + "\n" for cell in sorted(cells)]
    path.write_text("".join(lines), encoding="utf-8")


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)
