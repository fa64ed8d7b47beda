"""Compares schemes for unequal devices at equal bytes, computation and memory, and writes docs/comparison-tables.md.

    python -m benchmarks.heterogeneous                     all cells that are missing, then the page
    python -m benchmarks.heterogeneous --estimate          what that would take
    python -m benchmarks.heterogeneous --render            the page alone, from the cells that are there
    python -m benchmarks.heterogeneous --schemes depthfl --seeds 3    some cells, and no page
    python -m benchmarks.heterogeneous --conditions tricks+int8       with every trick and weights broadcast as int8
    python -m benchmarks.heterogeneous --with-kept         only cells that the page does not show yet
    python -m benchmarks.heterogeneous --untuned           no trials on validation samples, the first setting for all
    python -m benchmarks.heterogeneous --quick             a small comparison of digits in minutes, printed and drawn
    python -m benchmarks.heterogeneous --study activity    on smartwatches of ten persons, by the same settings
    python -m benchmarks.heterogeneous --study text        with a transformer on texts in ten languages, likewise
    python -m benchmarks.heterogeneous --study cifar10     on photographs, where CIFAR-10 is at hand, likewise

A run that was stopped goes on with the first missing cell. ``comparison/scheme_cells.py`` has the experiments,
``comparison/studies.py`` what they are made on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.comparison.scheme_cells import (
    CONDITIONS,
    EQUALITIES,
    GLOBAL_MODELS,
    REFERENCE,
    SCHEMES,
    WITH_FEDDYN,
    Cell,
    Equality,
    Place,
    cells,
    chosen_settings,
    cost_by_round,
    deepest_trained,
    experiment,
    parse_cell,
    population,
    result,
    rounds_for,
    rounds_of_equal_tasks,
    total,
    trials,
)
from benchmarks.comparison.scheme_report import Report
from benchmarks.comparison.studies import FASHION_MNIST, QUICK, SKEWED, STUDIES, Study
from benchmarks.results.cells import CellStore, Result, read_cells, several, write_cells
from benchmarks.results.pages import replace_section
from benchmarks.rivals.dynamic_regularisation import DynamicEngine, DynamicModel
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import Experiment, LocalEngine, local_engine, simulate
from fedlp_edge.simulation.engines.base import Engine

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "comparison-tables.md"
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "docs" / "results"

QUICK_SCHEMES = ("heterofl", "fedrolex", "fiarse", "depthfl", "scalefl", "fedlp-exits", REFERENCE)

QUICK_PICTURES = ROOT / "runs" / "comparison-quick"

QUICK_SIZE = replace(QUICK, rounds=12, limit=0)
"""Enough rounds and samples that schemes differ from guessing and from each other, unlike in the size of the tests."""

QUICK_SECONDS = 20.0
"""Seconds that a cell of digits takes one core."""

CORE_SECONDS = 60.0
"""Seconds that a cell takes one core of an x86-64 processor where no finished cell tells: 60 rounds of 4 devices with
600 samples each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=STUDIES, default="fashion-mnist", help="what schemes are compared on")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="of schemes with all tricks")
    parser.add_argument("--published-seeds", nargs="+", type=int, default=[1, 2], help="of schemes without")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=None, help="these alone, and no page")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--partitions", nargs="+", default=None, help="these alone, such as mixed:0.95")
    parser.add_argument("--equalities", nargs="+", choices=EQUALITIES, default=list(EQUALITIES))
    parser.add_argument("--untuned", action="store_true", help="skip the trials on validation samples")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cells", type=Path, default=None, help="file of finished cells [runs/STUDY/cells.jsonl]")
    parser.add_argument("--with-kept", action="store_true", help="take the cells in docs/results as finished")
    parser.add_argument("--first", type=int, default=None, help="compute at most so many cells")
    parser.add_argument("--estimate", action="store_true", help="compute nothing, say what is missing")
    parser.add_argument("--render", action="store_true", help="compute nothing, write the page")
    parser.add_argument("--quick", action="store_true", help="a small comparison, printed and drawn")
    arguments = parser.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as directory:
            store = CellStore(arguments.cells or Path(directory) / "cells.jsonl")
            print(quick(store, arguments.workers, QUICK_PICTURES))
        return
    study = STUDIES[arguments.study]
    store = CellStore(arguments.cells or ROOT / "runs" / study.name / "cells.jsonl")
    if arguments.with_kept:
        store.done = {**read_kept(study), **store.done}
    if arguments.render:
        write_page(store, study)
        return
    schemes = arguments.schemes or SCHEMES
    # Settings are chosen on one study and then taken to the others, on which nobody can have chosen them.
    tuned = study is FASHION_MNIST and not arguments.untuned
    tuning = [cell.name for cell in trials(schemes)] if tuned else []
    missing = [name for name in tuning if name not in store.done] + missing_cells(arguments, study, schemes, store)
    print(expected(missing, [*read_kept(study).values(), *store.done.values()], arguments.workers), flush=True)
    if arguments.estimate:
        return
    if study.prepare is not None:
        study.prepare()
    fill(store, [name for name in tuning if name not in store.done][: arguments.first], study, arguments.workers)
    # Which settings the deciding cells have is known now.
    missing = missing_cells(arguments, study, schemes, store)
    fill(store, missing[: arguments.first], study, arguments.workers)
    partial = (arguments.first, arguments.schemes, arguments.partitions) != (None, None, None)
    if not partial and (arguments.conditions, arguments.equalities) == (list(CONDITIONS), list(EQUALITIES)):
        write_page(store, study)


def quick(store: CellStore, workers: int, pictures: Path) -> str:
    """A small comparison of digits, with as many seeds as an interval needs; returns the tables.

    Args:
        store: Finished cells, of which none is computed again.
        workers: Processes that train.
        pictures: Directory of the pictures, one an equality.
    """
    wanted = [cell for cell in cells([1, 2], schemes=QUICK_SCHEMES) if (cell.mix, cell.partition) == ("u", SKEWED)]
    # The levels of these are chosen to fit for pictures larger than digits.
    wanted = [cell for cell in wanted if not (cell.memory and cell.scheme in ("heterofl", "fedrolex"))]
    names = [cell.name for cell in wanted if cell.condition != "adjusted"]
    missing = [name for name in names if name not in store.done]
    minutes = len(missing) * QUICK_SECONDS / workers / 60
    print(
        f"{several(len(missing), 'cell')} of digits to compute, about {minutes:.0f} minutes with "
        f"{several(workers, 'worker')} where nothing else runs",
        flush=True,
    )
    fill(store, names, QUICK_SIZE, workers)
    report = Report(store.done, QUICK_SIZE)
    report.draw(pictures)
    drawn = "Pictures: " + ", ".join(str(path) for path in sorted(pictures.glob("schemes-*.png")))
    return "\n\n".join([report.tables(), report.differences(), report.depths(), drawn])


def best_settings(store: CellStore, study: Study) -> dict[Place, int]:
    """Numbers of the settings that were best in the trials, which are made on Fashion-MNIST for all studies."""
    if not study.tuned:
        return {}
    return chosen_settings(store.done if study is FASHION_MNIST else read_kept(FASHION_MNIST))


def missing_cells(arguments: argparse.Namespace, study: Study, schemes: Sequence[str], store: CellStore) -> list[str]:
    """Names of the cells of the test split that the command line asks for and that are not finished."""
    chosen = {} if arguments.untuned else best_settings(store, study)
    return [
        cell.name
        for cell in cells(arguments.seeds, arguments.published_seeds, schemes, chosen, study)
        if cell.condition in arguments.conditions
        and (arguments.partitions is None or cell.partition in arguments.partitions)
        and set(cell.equalities) & set(arguments.equalities)
        and cell.name not in store.done
    ]


def expected(missing: Sequence[str], finished: Sequence[Result], workers: int) -> str:
    """One line about what the missing cells will take, by the median of the finished cells of their scheme."""
    known: dict[str, list[float]] = {}
    for found in finished:
        if "seconds" in found:  # not in cells that a busy machine computed
            known.setdefault(parse_cell(found["cell"]).scheme, []).append(found["seconds"] * found.get("workers", 1))
    medians = {scheme: statistics.median(seconds) for scheme, seconds in known.items()}
    seconds = sum(medians.get(parse_cell(name).scheme, CORE_SECONDS) for name in missing) / workers
    return (
        f"{several(len(missing), 'cell')} to compute, about {seconds / 3600:.1f} hours "
        f"with {several(workers, 'worker')}; stop it whenever you like, it goes on where it was"
    )


def kept(study: Study) -> Path:
    """The file of the finished cells that the page shows."""
    return RESULTS / f"{study.name}.jsonl"


def read_kept(study: Study) -> dict[str, Result]:
    """The finished cells that the page shows."""
    return read_cells(kept(study)) if kept(study).exists() else {}


def fill(store: CellStore, names: Sequence[str], study: Study, workers: int) -> None:
    """Computes the missing ones of these cells with one pool of workers."""
    if all(name in store.done for name in names):
        return
    with local_engine(workers=workers) as engine:
        store.fill(names, lambda name: {**compute(parse_cell(name), study, engine), "workers": workers})


def compute(cell: Cell, study: Study, engine: LocalEngine) -> dict[str, object]:
    """Runs one cell as far as the larger of its budgets goes, and stops for a look where the smaller one ends."""
    probe = experiment(cell, study, 1)
    costs = blueprint_of(probe)
    if cell.memory:
        rounds: dict[Equality, int] = {"memory": rounds_of_equal_tasks(probe, study)}
    else:
        paying = Cell("plain", REFERENCE, cell.mix, cell.partition, cell.seed, validation=cell.validation)
        reference = experiment(paying, study, study.rounds)
        budget = total(cost_by_round(reference, blueprint_of(reference)), study.rounds)
        rounds = rounds_for(cost_by_round(probe, costs), budget)
    planned = max(rounds.values())
    used: Engine = engine
    make_global_model: Callable[..., GlobalModel] = GLOBAL_MODELS.get(cell.scheme, GlobalModel)
    if cell.scheme in WITH_FEDDYN:
        used = DynamicEngine(engine)
        make_global_model = partial(DynamicModel, population=population(probe, costs))
    with tempfile.TemporaryDirectory(prefix="comparison-") as directory:
        for count in sorted(set(rounds.values())):
            summary = simulate(
                experiment(cell, study, count, planned),
                Path(directory) / "run",
                engine=used,
                make_global_model=make_global_model,
            )
    macs = total(cost_by_round(probe, costs), planned).macs / planned
    found = result(cell, study, summary, rounds, macs, deepest_trained(probe))
    if cell.scheme == "fiarse":  # of which simulated devices send all weights, and zeros for those that they lack
        spent = list(
            itertools.accumulate(cost.bytes for cost in itertools.islice(cost_by_round(probe, costs), planned))
        )
        found["megabytes"] = {round: spent[int(round) - 1] / 1e6 for round in found["megabytes"]}
    return {
        **found,
        "seconds": sum(entry.seconds for entry in summary.rounds),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def blueprint_of(wanted: Experiment) -> Blueprint:
    """The model of an experiment as data."""
    return build_model(wanted.model, seed=0, allow_models=None).blueprint(wanted.model.name)


def write_page(store: CellStore, study: Study) -> None:
    """Tables, pictures and the cells they come from."""
    report = Report(store.done, study, best_settings(store, study))
    report.draw(IMAGES)
    replace_section(PAGE, study.name, report.text())
    write_cells(kept(study), store.done)
    print(f"written: {PAGE.relative_to(ROOT)}, from {len(store.done)} cells in {kept(study).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
