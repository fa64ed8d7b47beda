"""The smartwatch recordings of the example ``activity``, with a folder for each person and a table for each recording.

``python -m benchmarks.comparison.activity_data`` writes them and says where; the comparison does so by itself.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "activity"
DIRECTORY = ROOT / "runs" / "comparison" / "activity"
"""Where they are written; it is no part of the repository."""


def prepare(directory: Path = DIRECTORY) -> Path:
    """Writes ``person=P/N.csv`` with a row a moment, if that is not done yet; returns the directory.

    Raises:
        SystemExit: the package with the recordings is not installed.
    """
    if not directory.is_dir():
        # Nothing has the name of the directory before all of it is there.
        partial = directory.with_name(f"{directory.name}.partial")
        write(_example().recordings(), partial)
        partial.rename(directory)
    return directory


def write(recordings: dict[str, Any], directory: Path) -> None:
    """Writes recordings as tables.

    Args:
        recordings: arrays ``X`` [moments, channels], numbers ``y`` and ``subject`` by recording, names ``y_labels`` and
            ``X_labels``.
        directory: made if missing.
    """
    columns = [*recordings["X_labels"], "exercise"]
    for number, (moments, label, person) in enumerate(
        zip(recordings["X"], recordings["y"], recordings["subject"], strict=True)
    ):
        folder = directory / f"person={person}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{number}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            exercise = recordings["y_labels"][label]
            rows.writerows([*(f"{value:.5g}" for value in moment), exercise] for moment in moments)


def _example() -> ModuleType:
    """The module of the example that reads the package; examples are scripts and no package."""
    spec = importlib.util.spec_from_file_location("prepare_activity", EXAMPLE / "prepare.py")
    if spec is None or spec.loader is None:
        sys.exit(f"error: {EXAMPLE / 'prepare.py'} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(prepare())
