"""How many rounds a fleet needs that starts from a model of other classes, beside one that starts from random values.

``python -m benchmarks.fine_tuning`` simulates a fleet on one half of the classes of
Fashion-MNIST, then one on the other half: from random values, from the first fleet's model (``run:DIR``), and from it
with frozen layers. Both halves take both parts. What is counted are the rounds that a fine-tuned fleet needs to reach
the full model's accuracy after the last round from random values. Everything else is equal: devices, data, seed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.pages import markdown_table
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.data.public_datasets import Split, mnist_like
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment, LocalEngine, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData

HALVES = {"0 to 4": (0, 1, 2, 3, 4), "5 to 9": (5, 6, 7, 8, 9)}
"""Classes by number: T-shirt, trouser, pullover, dress, coat; and sandal, shirt, sneaker, bag, boot."""

STARTS: dict[str, tuple[str, ...] | None] = {
    "random values": None,
    "the other half's model": (),
    "the same, layers 1 and 2 frozen": ("L1", "L2"),
}
"""What is frozen by where a fleet starts; None for random values."""

TESTED = 1000
"""Test samples of a half of the classes that models are judged on."""


class Row(msgspec.Struct, frozen=True):
    """What became of one fleet.

    Attributes:
        classes: Half of the classes that it learns.
        start: What it starts from.
        accuracy: Accuracy of the full model on test samples of its classes after rounds 1, 2, ..., 0 to 1.
        reached: First round from which on the accuracy from random values after the last round is reached; None for
            never.
        kilobytes_up: Kilobytes that a device of the full depth sends in a round.
    """

    classes: str
    start: str
    accuracy: tuple[float, ...]
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


def fleet_of(data: str, rounds: int, devices: int, samples: int, model: ModelSettings) -> Experiment:
    """A fleet of unequal depths whose devices hold unequal shares of the classes."""
    return Experiment(
        name="fine-tuning",
        model=model,
        data=SimulatedData(train=data, evaluate=data, partition="dirichlet:0.5", limit=samples),
        rounds=RoundSettings(count=rounds),
        fleet=FleetSettings(devices=devices, depth_mix=(0.2,) * 5),
    )


def row_of(classes: str, start: str, summary: Summary, wanted: float | None) -> Row:
    """Counts the rounds of one fleet.

    Args:
        classes: Half of the classes.
        start: What it starts from.
        summary: Summary of its run.
        wanted: Accuracy to be reached; None for what it has itself after its last round.
    """
    full = max(summary.rounds[-1].accuracy)
    accuracy = tuple(entry.accuracy[full] for entry in summary.rounds)
    goal = accuracy[-1] if wanted is None else wanted
    reached = next((number for number, value in enumerate(accuracy, start=1) if value >= goal), None)
    up = max(device.bytes_up for device in summary.rounds[-1].devices if device.depth == full)
    return Row(classes, start, accuracy, reached, up / 1e3)


def measure(directory: Path, rounds: int, devices: int, samples: int, earlier_samples: int) -> list[Row]:
    """Runs all fleets, one after the other.

    Args:
        directory: Directory of all runs.
        rounds: Rounds of every run.
        devices: Devices of every fleet.
        samples: Samples of a device of the fleets that are compared.
        earlier_samples: Samples of a device of the fleets before them.
    """
    rows = []
    data = {half: write_half(classes, directory / f"half-{classes[0]}.npz") for half, classes in HALVES.items()}
    with LocalEngine() as engine:
        for half, other in (tuple(HALVES), tuple(HALVES)[::-1]):
            earlier = directory / f"earlier {other}"
            simulate(fleet_of(data[other], rounds, devices, earlier_samples, _model()), earlier, engine=engine)
            wanted: float | None = None
            for number, (start, frozen) in enumerate(STARTS.items()):
                model = _model() if frozen is None else _model(weights=f"run:{earlier}", freeze=frozen)
                run = fleet_of(data[half], rounds, devices, samples, model)
                row = row_of(half, start, simulate(run, directory / f"{half} {number}", engine=engine), wanted)
                wanted = row.accuracy[-1] if wanted is None else wanted
                rows.append(row)
                print(msgspec.json.encode(row).decode(), flush=True)
    return rows


def _model(weights: str = "", freeze: tuple[str, ...] = ()) -> ModelSettings:
    return ModelSettings(name="fedlp-cnn-narrow", input=(1, 28, 28), classes=5, weights=weights, freeze=freeze)


def table(rows: list[Row]) -> str:
    """Returns the table for the page."""
    shown = [1, 3, 5, 10, len(rows[0].accuracy)]
    return markdown_table(
        ("classes", "starts from", *(f"round {number}, %" for number in shown), "rounds to goal", "kB up"),
        [
            (
                row.classes,
                row.start,
                *(f"{100 * row.accuracy[number - 1]:.1f}" for number in shown),
                "never" if row.reached is None else str(row.reached),
                f"{row.kilobytes_up:.0f}",
            )
            for row in rows
        ],
        left=2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--samples", type=int, default=100, help="of a device, at most")
    parser.add_argument("--earlier-samples", type=int, default=300, help="of a device of the earlier fleet, at most")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(Path(directory), chosen.rounds, chosen.devices, chosen.samples, chosen.earlier_samples)
    print(table(rows))


if __name__ == "__main__":
    main()
