"""Compares schemes for unequal devices at equal bytes and at equal computation, and writes docs/accuracy.md.

    python -m benchmarks.heterogeneous                     all cells that are missing, then the page
    python -m benchmarks.heterogeneous --render            the page alone, from the cells that are there
    python -m benchmarks.heterogeneous --schemes fedlp-plus --seeds 3    some cells, and no page
    python -m benchmarks.heterogeneous --quick             a small comparison of digits in seconds, printed

A run that was stopped goes on with the first missing cell. ``benchmarks/scheme_cells.py`` has the experiments.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import torch

from benchmarks.cells import CellStore, Size, write_cells
from benchmarks.pages import replace_section
from benchmarks.scheme_cells import (
    FULL,
    QUICK,
    REFERENCE,
    SCHEMES,
    Cell,
    cells,
    cost_by_round,
    experiment,
    parse_cell,
    result,
    rounds_for,
    total,
)
from benchmarks.scheme_report import Report
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import Experiment, LocalEngine, local_engine, simulate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
IMAGES = ROOT / "docs" / "images"
KEPT = ROOT / "docs" / "results" / "comparison.jsonl"
SECTION = "comparison"

QUICK_SCHEMES = ("fedlp-hetero", "heterofl", "depthfl", "fedlp-plus")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=None, help="these alone, and no page")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cells", type=Path, default=None, help="file of finished cells [runs/comparison/cells.jsonl]")
    parser.add_argument("--first", type=int, default=None, help="compute at most so many cells, for an estimate")
    parser.add_argument("--render", action="store_true", help="compute nothing, write the page")
    parser.add_argument("--quick", action="store_true", help="a small comparison, printed and not written")
    arguments = parser.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as directory:
            store = CellStore(arguments.cells or Path(directory) / "cells.jsonl")
            wanted = [
                c.name for c in cells(arguments.seeds[:1], QUICK_SCHEMES) if c.mix == "u" and c.condition != "adjusted"
            ]
            fill(store, wanted, QUICK, arguments.workers)
            report = Report(store.done, QUICK)
            print("\n\n".join([report.tables(), report.goals(), report.depths()]))
        return
    store = CellStore(arguments.cells or ROOT / "runs" / "comparison" / "cells.jsonl")
    if not arguments.render:
        names = [cell.name for cell in cells(arguments.seeds, arguments.schemes or SCHEMES)]
        missing = [name for name in names if name not in store.done]
        fill(store, missing[: arguments.first], FULL, arguments.workers)
    if arguments.first is None and arguments.schemes is None:
        write_page(store)


def fill(store: CellStore, names: list[str], size: Size, workers: int) -> None:
    """Computes the missing ones of these cells with one pool of workers."""
    with local_engine(workers=workers) as engine:
        store.fill(names, lambda name: compute(parse_cell(name), size, engine))


def compute(cell: Cell, size: Size, engine: LocalEngine) -> dict[str, object]:
    """Runs one cell as far as the larger of its budgets goes, and stops for a look where the smaller one ends."""
    reference = experiment(Cell("plain", REFERENCE, cell.mix, cell.partition, cell.seed), size, size.rounds)
    budget = total(cost_by_round(reference, blueprint_of(reference)), size.rounds)
    probe = experiment(cell, size, 1)
    rounds = rounds_for(cost_by_round(probe, blueprint_of(probe)), budget)
    with tempfile.TemporaryDirectory(prefix="comparison-") as directory:
        for count in sorted(set(rounds.values())):
            summary = simulate(experiment(cell, size, count), Path(directory) / "run", engine=engine)
    return {
        **result(cell, size, summary, rounds),
        "seconds": sum(entry.seconds for entry in summary.rounds),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def blueprint_of(wanted: Experiment) -> Blueprint:
    """The model of an experiment as data."""
    return build_model(wanted.model, seed=0).blueprint(wanted.model.name)


def write_page(store: CellStore) -> None:
    """Tables, picture and the cells they come from."""
    report = Report(store.done, FULL)
    report.draw(IMAGES)
    replace_section(PAGE, SECTION, report.text())
    write_cells(KEPT, store.done)
    print(f"written: {PAGE.relative_to(ROOT)}, from {len(store.done)} cells in {KEPT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
