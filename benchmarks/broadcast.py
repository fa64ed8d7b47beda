"""What the encoding of the broadcast costs in accuracy and saves in bytes, over many rounds.

    python -m benchmarks.broadcast --rounds 200 --seeds 1 2 3

For each seed it simulates the same fleet once per encoding, and once with ``int4`` and the coordinator's full-precision
weights thrown away after every round, which shows what keeping them is good for. One JSON object a line; with
``--results FILE`` a run that was stopped goes on with the first figure that the file lacks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from benchmarks.results.cells import CellStore
from fedlp_edge.core.algorithm.aggregation import LayerwiseMean
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import (
    BROADCAST_ENCODINGS,
    BroadcastEncoding,
    ModelSettings,
    TrainingSettings,
    UpdateSettings,
)
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import local_engine
from fedlp_edge.simulation.engines.base import Engine
from fedlp_edge.simulation.experiment import Experiment, FleetSettings, SimulatedData, SimulationSettings
from fedlp_edge.simulation.run import simulate
from fedlp_edge.wire.broadcast_encoding import published_weights

ENCODINGS: tuple[BroadcastEncoding, ...] = BROADCAST_ENCODINGS
LAST = 10
"""Rounds at the end whose mean accuracy is reported."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--encodings", nargs="+", choices=ENCODINGS, default=["none", "fp16", "int8", "int4", "int4+zstd"]
    )
    parser.add_argument("--model", default="small-cnn", help="a built-in model of five depths")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--input", nargs="+", type=int, default=[1, 8, 8])
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--limit", type=int, default=0, help="samples of each device; 0 for its whole share")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--forgotten", nargs="*", choices=ENCODINGS, default=["int4"], help="also without what is kept")
    parser.add_argument("--results", type=Path, help="file of finished runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, local_engine(arguments.workers) as engine:
        store = CellStore(arguments.results or Path(directory) / "results.jsonl")
        for seed in arguments.seeds:
            for encoding in arguments.encodings:
                update = UpdateSettings(broadcast=encoding)
                print_once(store, f"{seed} {encoding}", partial(measured, arguments, seed, update, engine))
            for encoding in arguments.forgotten:
                print_once(store, f"{seed} {encoding} forgotten", partial(without, arguments, seed, encoding, engine))


def print_once(store: CellStore, cell: str, compute: Callable[[], dict[str, object]]) -> None:
    """Prints a finished run, which is computed if it is missing."""
    print(json.dumps(store.done.get(cell) or store.add(cell, compute())), flush=True)


def without(arguments: argparse.Namespace, seed: int, encoding: BroadcastEncoding, engine: Engine) -> dict[str, object]:
    """Simulates a coordinator that keeps only what it published."""
    with forgotten_rounding(encoding):
        return {**measured(arguments, seed, UpdateSettings(broadcast=encoding), engine), "kept_in_full": False}


def measured(arguments: argparse.Namespace, seed: int, update: UpdateSettings, engine: Engine) -> dict[str, object]:
    """Simulates a fleet of five depths on unequal data."""
    experiment = Experiment(
        seed=seed,
        model=ModelSettings(name=arguments.model, input=tuple(arguments.input), classes=10),
        data=SimulatedData(
            train=arguments.data, evaluate=arguments.data, partition="dirichlet:0.5", limit=arguments.limit
        ),
        training=TrainingSettings(compute="float32", lr=0.02),
        update=update,
        rounds=RoundSettings(count=arguments.rounds, keep_checkpoints=2),
        fleet=FleetSettings(devices=arguments.devices, depth_mix=(0.2,) * 5),
        simulation=SimulationSettings(workers=arguments.workers, evaluate_every=arguments.rounds, evaluate_last=LAST),
    )
    with tempfile.TemporaryDirectory() as directory:
        summary = simulate(experiment, Path(directory), engine=engine)
    parts = [device for entry in summary.rounds for device in entry.devices]
    return {
        "seed": seed,
        "broadcast": update.broadcast,
        "rounds": arguments.rounds,
        "accuracy_full": round(_mean_of_last(summary, full=True), 4),
        "accuracy_mean_of_exits": round(_mean_of_last(summary, full=False), 4),
        "bytes_down": sum(device.payload_down for device in parts),
        "bytes_up": sum(device.payload_up for device in parts),
        "params_up": sum(device.params_up for device in parts),
    }


def _mean_of_last(summary: Summary, *, full: bool) -> float:
    values = []
    for entry in summary.rounds[-LAST:]:
        values.append(entry.accuracy[max(entry.accuracy)] if full else statistics.fmean(entry.accuracy.values()))
    return statistics.fmean(values)


@contextmanager
def forgotten_rounding(encoding: BroadcastEncoding) -> Iterator[None]:
    """Has the coordinator take what it publishes for its model, so that what rounding takes is lost."""
    step = GlobalModel.step

    def step_and_forget(model: GlobalModel, round: int, mean: LayerwiseMean) -> None:
        step(model, round, mean)
        tensors = [tensor for unit in model._blueprint.global_units for tensor in unit.tensors]
        model.weights = model.weights | published_weights(tensors, model.weights, encoding)

    with patch.object(GlobalModel, "step", step_and_forget):
        yield


if __name__ == "__main__":
    main()
