"""How many rounds a fleet needs that starts from MiniLM's published weights, beside one that starts from random values.

    python examples/text/prepare.py data        (with the packages that examples/text/requirements.txt names)
    python -m benchmarks.fine_tuning_text data

Two devices tell the ten languages of the text example apart, with the same network, texts, seed and settings; only the
first values and the number of rounds differ. It is the example made small: 400 of its 1,600 texts are learned, in
batches of 8, by the embedding and the first two of six layers (depth 3 of 8), and judged are the 400 test texts. The
step size falls to nothing over the rounds of each fleet. ``--validate`` judges on 400 texts of which no device learns
in place of the test, as for choosing step sizes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.results.pages import markdown_table
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, ObjectiveSettings, TrainingSettings
from fedlp_edge.simulation import Experiment, LocalEngine, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData, SimulationSettings

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "text"
TOKENS, LANGUAGES, DEPTHS = 16, 10, 8
VALIDATION = 400
"""Texts that are held out for choosing settings."""


class Options(msgspec.Struct, frozen=True):
    """Options of the command line.

    Attributes:
        rounds: Rounds from random values.
        tuned_rounds: Rounds from the published weights.
        devices: Devices of every fleet.
        depth: Depth of all devices.
        samples: Texts of a device.
        lr: Step size from random values.
        tuned_lr: Step size from the published weights.
        starts: What fleets start from, of ``random`` and ``published``; ``learned`` is random values with an embedding
            that is trained as well.
        validate: Judge on held-out texts in place of the test.
        seed: Seed of both fleets.
        workers: Worker processes; 0 for one per core.
    """

    rounds: int = 20
    tuned_rounds: int = 5
    devices: int = 2
    depth: int = 3
    samples: int = 200
    lr: float = 0.0005
    tuned_lr: float = 0.0005
    starts: str = "random learned published"
    validate: bool = False
    seed: int = 1
    workers: int = 1


class Row(msgspec.Struct, frozen=True):
    """What became of one fleet.

    Attributes:
        start: What it starts from.
        lr: Its first step size.
        accuracy: Accuracy of the exit of the devices' depth after rounds 1, 2, ..., 0 to 1.
    """

    start: str
    lr: float
    accuracy: tuple[float, ...]


def split_texts(data: Path, directory: Path) -> tuple[str, str]:
    """Divides the texts of all devices into those that are learned and those that settings are chosen by.

    Args:
        data: Directory that the example's preparation has written.
        directory: Directory of the two files.

    Returns:
        The data specifications of both.
    """
    with np.load(data / "all.npz") as held:
        x, y, names = held["x"], held["y"], held["classes"]
    specifications = []
    for name, part in (("learned", slice(VALIDATION, None)), ("validation", slice(VALIDATION))):
        np.savez(directory / f"{name}.npz", x=x[part], y=y[part], classes=names)
        specifications.append(f"npz:{directory / name}.npz")
    return specifications[0], specifications[1]


def fleet_of(train: str, evaluate: str, start: str, weights: Path, options: Options) -> Experiment:
    """A fleet that starts from random values or from published ones.

    Args:
        train: Data specification of what is learned.
        evaluate: Data specification of what the model is judged on.
        start: ``random``, ``learned`` or ``published``.
        weights: File of the published weights.
        options: Options of the command line.
    """
    published = start == "published"
    return Experiment(
        name="fine-tuning-text",
        seed=options.seed,
        model=ModelSettings(
            name="minilm:build",
            input=(TOKENS,),
            tokens=True,
            classes=LANGUAGES,
            weights=str(weights) if published else "",
            freeze=() if start == "learned" else ("embeddings",),
        ),
        data=SimulatedData(train=train, evaluate=evaluate, partition="dirichlet:1.0", limit=options.samples),
        training=TrainingSettings(
            optimizer="adamw",
            lr=options.tuned_lr if published else options.lr,
            schedule="cosine",
            batch_size=8,
            clip_norm=1.0,
            objective=ObjectiveSettings(logit_adjustment=1.0),
        ),
        rounds=RoundSettings(count=options.tuned_rounds if published else options.rounds),
        fleet=FleetSettings(
            devices=options.devices, depth_mix=tuple(float(depth == options.depth) for depth in range(1, DEPTHS + 1))
        ),
        simulation=SimulationSettings(workers=options.workers),
    )


def measure(data: Path, directory: Path, options: Options) -> list[Row]:
    """Runs all fleets, one after the other.

    Args:
        data: Directory that the example's preparation has written.
        directory: Directory of all runs.
        options: Options of the command line.
    """
    train, validation = split_texts(data, directory)
    evaluate = validation if options.validate else f"npz:{(data / 'test.npz').resolve()}"
    # Workers import the model from the example.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")])
    rows = []
    with LocalEngine(options.workers) as engine:
        for start in options.starts.split():
            experiment = fleet_of(train, evaluate, start, (data / "minilm.safetensors").resolve(), options)
            summary = simulate(experiment, directory / start, engine=engine)
            accuracy = tuple(entry.accuracy[options.depth] for entry in summary.rounds)
            rows.append(Row(start, experiment.training.lr, accuracy))
            print(msgspec.json.encode(rows[-1]).decode(), flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Returns the table for the page: rounds 1 to 5, and the best and the last round of each fleet."""
    shown = range(1, 6)
    return markdown_table(
        ("starts from", "first step size", *(f"round {number}, %" for number in shown), "best, %", "last, %", "rounds"),
        [
            (
                row.start,
                f"{row.lr:g}",
                *(f"{100 * row.accuracy[number - 1]:.1f}" for number in shown),
                f"{100 * max(row.accuracy):.1f}",
                f"{100 * row.accuracy[-1]:.1f}",
                str(len(row.accuracy)),
            )
            for row in rows
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="directory that examples/text/prepare.py has written")
    for field in msgspec.structs.fields(Options):
        name = f"--{field.name.replace('_', '-')}"
        if field.type is bool:
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(field.default), default=field.default)
    given = vars(parser.parse_args())
    data = given.pop("data")
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(data, Path(directory), msgspec.convert(given, Options))
    print(table(rows))


if __name__ == "__main__":
    main()
