"""Repeats small cases of which the authors of a rival have published the accuracy, on the interface of the comparison.

    python -m benchmarks.rival_figures             all cases that are missing, then the section of docs/accuracy.md
    python -m benchmarks.rival_figures --render    the section alone

A case is as its authors' code has it (network, split, optimizer, step sizes, and the best round counts), but for fewer
rounds. It takes about 10 minutes of one core of an x86-64 processor. MNIST must be in the directory of data sets.
What is too large to be repeated is held to its authors' code by literal values, in ``tests/benchmarks/rivals``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn

from benchmarks.results.cells import CellStore, Result, read_cells, write_cells
from benchmarks.results.pages import markdown_table, replace_section
from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.simulation import Experiment, local_engine, simulate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
KEPT = ROOT / "docs" / "results" / "rival-figures.jsonl"

ROUNDS, STEP_AFTER = 75, 60
"""Rounds, and those after which the step size falls to a tenth; HeteroFL's authors have 200 and 100."""

HALVES = (0.5, 1.0)
"""Levels e and d of HeteroFL, as shares of the channels of d, which is the global model."""


@dataclass(frozen=True)
class Case:
    """An experiment with a published figure.

    Attributes:
        name: of the case, for people too.
        mix: share of the devices of each level, narrowest first.
        published: best accuracy of the global model, per cent.
    """

    name: str
    mix: tuple[float, float]
    published: float


CASES = (
    Case("HeteroFL, MNIST, iid, 50% e and 50% d", (0.5, 0.5), 99.08),
    Case("HeteroFL, MNIST, iid, 90% e and 10% d", (0.9, 0.1), 98.53),
    Case("HeteroFL, MNIST, iid, all d", (0.0, 1.0), 99.17),
)
"""Of the picture ``asset/MNIST_interp_iid.png`` in the repository of HeteroFL's authors, part (d), from which they are
read to about 0.01."""


def level_d(num_classes: int) -> list[nn.Module]:
    """HeteroFL's convolutional network at an eighth of its width: 8, 16, 32 and 64 channels."""
    blocks: list[nn.Module] = []
    channels = 1
    for number, wider in enumerate((8, 16, 32, 64), start=1):
        layers = [nn.Conv2d(channels, wider, 3, 1, 1), nn.BatchNorm2d(wider), nn.ReLU()]
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)) if number < 4 else nn.Sequential(*layers))
        channels = wider
    classifier = nn.Linear(channels, num_classes)
    nn.init.zeros_(classifier.bias)
    return [*blocks, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)]


def experiment(case: Case, rounds: int = ROUNDS, seed: int = 1) -> Experiment:
    """What is simulated for a case."""
    return msgspec.convert(
        with_recipe(
            {
                "name": "rival-figures",
                "seed": seed,
                "recipe": "heterofl",
                "model": {
                    "name": f"benchmarks.rival_figures:{level_d.__name__}",
                    "input": [1, 28, 28],
                    "classes": 10,
                    "width_ratios": list(HALVES),
                },
                "data": {"train": "mnist", "evaluate": "mnist", "partition": "iid"},
                "training": {
                    "epochs": 5,
                    "batch_size": 10,
                    "optimizer": "sgd",
                    "lr": 0.01,
                    "momentum": 0.9,
                    "weight_decay": 5e-4,
                    "clip_norm": 1.0,
                    "schedule": "step",
                    "step_every": STEP_AFTER,
                    "step_factor": 0.1,
                    "compute": "float32",
                },
                "scheme": {"weights": "uniform"},
                "rounds": {"count": rounds, "devices_per_round": 10, "keep_checkpoints": 1},
                "fleet": {"devices": 100, "depth_mix": list(case.mix)},
                # The best round comes after the step size has fallen.
                "simulation": {"evaluate_every": 10, "evaluate_last": max(1, rounds - STEP_AFTER)},
            }
        ),
        Experiment,
    )


def compute(wanted: Experiment) -> Result:
    """Runs a case; returns the accuracies by round, from 0 to 1, and what they were computed with."""
    with local_engine(workers=1) as engine, tempfile.TemporaryDirectory(prefix="rival-figures-") as directory:
        summary = simulate(wanted, Path(directory) / "run", engine=engine)
    accuracy = {str(entry.round): entry.accuracy[max(entry.accuracy)] for entry in summary.rounds if entry.accuracy}
    return {
        "accuracy": accuracy,
        "best": max(accuracy.values()),
        "last": accuracy[str(wanted.rounds.count)],
        "seconds": sum(entry.seconds for entry in summary.rounds),
        "torch": torch.__version__,
        "digest": summary.final.model_digest if summary.final else "",
    }


def table(done: Mapping[str, Result]) -> str:
    """Published and repeated figures side by side, as Markdown."""
    rows = [
        [case.name, f"{case.published:.2f}", *[f"{100 * done[case.name][key]:.2f}" for key in ("best", "last")]]
        for case in CASES
        if case.name in done
    ]
    return markdown_table(("case", "published, best of 200", f"here, best of {ROUNDS}", f"here, round {ROUNDS}"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=ROOT / "runs" / "rival-figures" / "cells.jsonl")
    parser.add_argument("--first", type=int, default=len(CASES), help="compute at most so many cases")
    parser.add_argument("--render", action="store_true", help="compute nothing, write the section")
    arguments = parser.parse_args()
    store = CellStore(arguments.cells)
    if KEPT.exists():
        store.done = {**read_cells(KEPT), **store.done}
    if not arguments.render:
        missing = [case for case in CASES if case.name not in store.done][: arguments.first]
        by_name = {case.name: case for case in missing}
        store.fill(by_name, lambda name: compute(experiment(by_name[name])))
    write_cells(KEPT, store.done)
    replace_section(PAGE, KEPT.stem, table(store.done))
    print(table(store.done))


if __name__ == "__main__":
    main()
