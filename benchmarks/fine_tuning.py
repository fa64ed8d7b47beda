"""How many rounds a fleet needs that starts from a trained model, beside one that starts from random values.

``python -m benchmarks.fine_tuning`` simulates a fleet on one half of the classes of
Fashion-MNIST, then fleets on the other half: from random values, from the first fleet's model (``run:DIR``), from its
layers alone (``reset_heads``), and from these with the layers frozen. Both halves take both parts; each has
clothes and shoes. What is counted are the rounds that a fine-tuned fleet needs to reach what the full model has come to
from random values: its mean accuracy after the last three rounds, since single rounds go up and down by a per cent or
two. Everything else is equal: devices, data, seed. ``fine_tuning_text`` does the same with published weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from benchmarks.results.pages import markdown_table
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, ObjectiveSettings, TrainingSettings
from fedlp_edge.learning.data.public_datasets import Split, mnist_like
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment, LocalEngine, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData, SimulationSettings

HALVES = {"0 3 4 5 7": (0, 3, 4, 5, 7), "1 2 6 8 9": (1, 2, 6, 8, 9)}
"""Classes by number: T-shirt, dress, coat, sandal, sneaker; and trouser, pullover, shirt, bag, boot."""

LAST = 3
"""Number of last rounds whose mean accuracy is to be reached."""


class Start(msgspec.Struct, frozen=True):
    """Where a fleet starts.

    Attributes:
        name: Name for people.
        taken: What is taken of the other half's model: nothing, the whole ``model``, or its ``layers`` alone, so that
            heads start anew.
        freeze: Patterns of what is frozen.
    """

    name: str
    taken: Literal["nothing", "model", "layers"]
    freeze: tuple[str, ...] = ()


STARTS = (
    Start("random values", "nothing"),
    Start("the other half's model", "model"),
    Start("its layers, `reset_heads`", "layers"),
    Start("the same, layers frozen", "layers", ("L*",)),
)

TESTED = 1000
"""Test samples of a half of the classes that models are judged on."""


class Options(msgspec.Struct, frozen=True):
    """Options of the command line.

    Attributes:
        rounds: Rounds from random values.
        tuned_rounds: Rounds of fine-tuned fleets.
        earlier_rounds: Rounds of the earlier fleets.
        devices: Devices of every fleet.
        samples: Most samples of a device of the fleets that are compared.
        earlier_samples: Most samples of a device of the earlier fleets.
        lr: Step size of all fleets.
        epochs: Passes over a device's samples in a round; the earlier fleets take one.
        seed: Seed of all fleets.
        workers: Worker processes; 0 for one per core.
    """

    rounds: int = 20
    tuned_rounds: int = 8
    earlier_rounds: int = 12
    devices: int = 10
    samples: int = 100
    earlier_samples: int = 1000
    lr: float = 0.05
    epochs: int = 1
    seed: int = 1
    workers: int = 0


class Row(msgspec.Struct, frozen=True):
    """What became of one fleet.

    Attributes:
        classes: Half of the classes that it learns.
        start: What it starts from.
        accuracy: Accuracy of the full model on test samples of its classes after rounds 1, 2, ..., 0 to 1.
        goal: Accuracy to be reached.
        reached: First round in which it is reached; None for never.
        kilobytes_up: Kilobytes that a device of the full depth sends in a round.
    """

    classes: str
    start: str
    accuracy: tuple[float, ...]
    goal: float
    reached: int | None
    kilobytes_up: float


def write_half(classes: tuple[int, ...], path: Path) -> str:
    """Writes the samples of some classes, numbered from 0, and returns their data specification."""
    arrays: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        x, y = mnist_like("fashion-mnist", split)
        held = np.flatnonzero(np.isin(y, classes))[: TESTED if split == "test" else None]
        arrays[f"x_{split}"] = (x[held].astype(np.float32) / 255 - 0.286) / 0.353
        arrays[f"y_{split}"] = np.searchsorted(classes, y[held])
    np.savez(path, **arrays)
    return f"npz:{path}"


def fleet_of(data: str, rounds: int, options: Options, model: ModelSettings, *, earlier: bool = False) -> Experiment:
    """A fleet whose devices hold unequal shares of the classes, in the earlier fleet equal ones."""
    samples = options.earlier_samples if earlier else options.samples
    return Experiment(
        name="fine-tuning",
        seed=options.seed,
        model=model,
        data=SimulatedData(train=data, evaluate=data, partition="iid" if earlier else "dirichlet:0.5", limit=samples),
        training=TrainingSettings(
            epochs=1 if earlier else options.epochs,
            lr=options.lr,
            objective=ObjectiveSettings(logit_adjustment=1.0),
        ),
        rounds=RoundSettings(count=rounds),
        fleet=FleetSettings(devices=options.devices, depth_mix=(0.0, 0.0, 0.0, 0.0, 1.0)),
        simulation=SimulationSettings(workers=options.workers),
    )


def row_of(classes: str, start: str, summary: Summary, wanted: float | None) -> Row:
    """Counts the rounds of one fleet.

    Args:
        classes: Half of the classes.
        start: What it starts from.
        summary: Summary of its run.
        wanted: Accuracy to be reached; None for the mean of its own last rounds.
    """
    full = max(summary.rounds[-1].accuracy)
    accuracy = tuple(entry.accuracy[full] for entry in summary.rounds)
    goal = sum(accuracy[-LAST:]) / LAST if wanted is None else wanted
    reached = next((number for number, value in enumerate(accuracy, start=1) if value >= goal), None)
    up = max(device.bytes_up for device in summary.rounds[-1].devices if device.depth == full)
    return Row(classes, start, accuracy, goal, reached, up / 1e3)


def measure(directory: Path, options: Options) -> list[Row]:
    """Runs all fleets, one after the other.

    Args:
        directory: Directory of all runs.
        options: Options of the command line.
    """
    rows = []
    data = {half: write_half(classes, directory / f"half-{classes[0]}.npz") for half, classes in HALVES.items()}
    with LocalEngine(options.workers) as engine:
        for half, other in (tuple(HALVES), tuple(HALVES)[::-1]):
            earlier = directory / f"earlier {other}"
            run = fleet_of(data[other], options.earlier_rounds, options, _model(), earlier=True)
            simulate(run, earlier, engine=engine)
            wanted: float | None = None
            for number, start in enumerate(STARTS):
                rounds = options.rounds if start.taken == "nothing" else options.tuned_rounds
                run = fleet_of(data[half], rounds, options, _model(earlier, start))
                row = row_of(half, start.name, simulate(run, directory / f"{half} {number}", engine=engine), wanted)
                wanted = row.goal
                rows.append(row)
                print(msgspec.json.encode(row).decode(), flush=True)
    return rows


def _model(earlier: Path | None = None, start: Start = STARTS[0]) -> ModelSettings:
    taken = start.taken != "nothing"
    return ModelSettings(
        name="fedlp-cnn-narrow",
        input=(1, 28, 28),
        classes=5,
        weights=f"run:{earlier}" if taken else "",
        reset_heads=start.taken == "layers",
        freeze=start.freeze,
    )


def table(rows: list[Row]) -> str:
    """Returns the table for the page."""
    shown = range(1, 6)
    return markdown_table(
        ("classes", "starts from", *(f"round {number}, %" for number in shown), "goal, %", "rounds to goal", "kB up"),
        [
            (
                row.classes,
                row.start,
                *(f"{100 * row.accuracy[number - 1]:.1f}" for number in shown),
                f"{100 * row.goal:.1f}",
                "never" if row.reached is None else str(row.reached),
                f"{row.kilobytes_up:.0f}",
            )
            for row in rows
        ],
        left=2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in msgspec.structs.fields(Options):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    options = msgspec.convert(vars(parser.parse_args()), Options)
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(Path(directory), options)
    print(table(rows))


if __name__ == "__main__":
    main()
