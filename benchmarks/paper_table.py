"""Repeats the FedLP paper's table and writes it, with pictures, into docs/accuracy.md.

    python -m benchmarks.paper_table                 all cells that are missing, then the page
    python -m benchmarks.paper_table --render        the page alone, from the cells that are there
    python -m benchmarks.paper_table --quick         a small table of digits in seconds, printed

A run that was stopped goes on with the first missing cell. ``comparison/paper_cells.py`` has the experiments.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import torch

from benchmarks.comparison.paper_cells import FULL, QUICK, cells, experiment, parse_cell, result
from benchmarks.comparison.paper_report import Report
from benchmarks.results.cells import CellStore, Size, write_cells
from benchmarks.results.pages import replace_section
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import local_engine, simulate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
IMAGES = ROOT / "docs" / "images"
KEPT = ROOT / "docs" / "results" / "paper-table.jsonl"
SECTION = "paper-table"

QUICK_SCHEMES = ("fedavg", "homo-0.5", "hetero-1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--cells", type=Path, default=None, help="file of finished cells [runs/paper-table/cells.jsonl]"
    )
    parser.add_argument("--first", type=int, default=None, help="compute at most so many cells, for an estimate")
    parser.add_argument("--render", action="store_true", help="compute nothing, write the page")
    parser.add_argument("--quick", action="store_true", help="a small table, printed and not written")
    arguments = parser.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as directory:
            store = CellStore(arguments.cells or Path(directory) / "cells.jsonl")
            names = [cell.name for cell in cells(arguments.seeds[:1], QUICK_SCHEMES, ("iid", "mixed:0.95"))]
            fill(store, names, QUICK, arguments.workers)
            print(Report(store.done, QUICK).tables())
        return
    store = CellStore(arguments.cells or ROOT / "runs" / "paper-table" / "cells.jsonl")
    if not arguments.render:
        names = [cell.name for cell in cells(arguments.seeds)]
        missing = [name for name in names if name not in store.done]
        fill(store, missing[: arguments.first], FULL, arguments.workers)
    if arguments.first is None:
        write_page(store)


def fill(store: CellStore, names: list[str], size: Size, workers: int) -> None:
    """Computes the missing ones of these cells with one pool of workers."""
    with local_engine(workers=workers) as engine:

        def compute(name: str) -> dict[str, object]:
            cell = parse_cell(name)
            wanted = experiment(cell, size)
            blueprint = build_model(wanted.model, seed=0).blueprint(wanted.model.name)
            with tempfile.TemporaryDirectory(prefix="paper-table-") as directory:
                summary = simulate(wanted, Path(directory) / "run", engine=engine)
            return {
                **result(cell, size, summary, blueprint),
                "seconds": sum(entry.seconds for entry in summary.rounds),
                "torch": torch.__version__,
                "machine": platform.machine(),
            }

        store.fill(names, compute)


def write_page(store: CellStore) -> None:
    """Tables, pictures and the cells they come from."""
    report = Report(store.done, FULL)
    report.draw(IMAGES)
    replace_section(PAGE, SECTION, report.text())
    write_cells(KEPT, store.done)
    print(f"written: {PAGE.relative_to(ROOT)}, from {len(store.done)} cells in {KEPT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
