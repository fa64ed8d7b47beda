"""The experiments of the FedLP paper's table, each as a cell with a name, and what is kept of each.

arXiv 2303.06360, section V, on Fashion-MNIST with the narrow network, so that a machine without a GPU can repeat
it. Two *modes*: ``authors`` does as their code does (github.com/Zhuzzq/FedLP), ``paper`` as the text says:

==========  ===================================  ==========================================
mode        authors                              paper
==========  ===================================  ==========================================
drawn       every tensor                         every layer
weights     all devices the same                 samples
heads       start anew at every selection        go on where the device's last round ended
mixed       shards cut from all samples          shards cut from what the even part left
depths      drawn by each device                 the shares are met exactly
==========  ===================================  ==========================================
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.results.cells import Size, silent_rounds
from fedlp_edge.core.accounting import communication
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, TrainingSettings
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData, SimulationSettings

Mode = Literal["authors", "paper"]

MODES: tuple[Mode, ...] = ("paper", "authors")
PARTITIONS = ("iid", "dirichlet:1", "mixed:0.95")
SCHEMES = ("fedavg", "homo-0.7", "homo-0.5", "homo-0.3", "homo-0.1", "hetero-5", "hetero-u", "hetero-3", "hetero-1")

DEPTHS = 5
PREFERRED = 0.6
"""Probability of the depth that Hetero(k) prefers; the others share the rest (``init_cplx_dict`` of their code)."""


FULL = Size()
QUICK = Size(data="digits", input=(1, 8, 8), devices=8, cohort=3, rounds=3, reported=2, every=1, limit=40)


@dataclass(frozen=True)
class Cell:
    """One experiment."""

    mode: Mode
    scheme: str
    partition: str
    seed: int

    @property
    def name(self) -> str:
        """``paper/homo-0.5/iid/1``."""
        return f"{self.mode}/{self.scheme}/{self.partition}/{self.seed}"

    @property
    def lpr(self) -> float:
        """Layer-preserving rate."""
        return float(self.scheme.removeprefix("homo-")) if self.scheme.startswith("homo-") else 1.0

    @property
    def depth_mix(self) -> tuple[float, ...]:
        """Share of the devices by depth."""
        if not self.scheme.startswith("hetero-"):
            return (0.0,) * (DEPTHS - 1) + (1.0,)
        preferred = self.scheme.removeprefix("hetero-")
        if preferred == "u":
            return (1 / DEPTHS,) * DEPTHS
        other = (1 - PREFERRED) / (DEPTHS - 1)
        return tuple(PREFERRED if depth == int(preferred) else other for depth in range(1, DEPTHS + 1))


def cells(
    seeds: Sequence[int], schemes: Sequence[str] = SCHEMES, partitions: Sequence[str] = PARTITIONS
) -> Iterator[Cell]:
    """All cells, the first seed's first, so that a table can be read before the last is done."""
    for seed, partition, scheme, mode in itertools.product(seeds, partitions, schemes, MODES):
        yield Cell(mode, scheme, partition, seed)


def parse_cell(name: str) -> Cell:
    """The cell of a name."""
    mode, scheme, partition, seed = name.split("/")
    return Cell("authors" if mode == "authors" else "paper", scheme, partition, int(seed))


def experiment(cell: Cell, size: Size) -> Experiment:
    """What is simulated for a cell."""
    authors = cell.mode == "authors"
    partition = cell.partition.replace("mixed:", "mixed-authors:") if authors else cell.partition
    return Experiment(
        name="paper-table",
        seed=cell.seed,
        model=ModelSettings(name="fedlp-cnn-narrow", input=size.input, classes=10, head_mode="personal"),
        data=SimulatedData(train=size.data, evaluate=size.data, partition=partition, limit=size.limit),
        # Pinned, so that a cell ends with the same bits whenever it is computed; this layout is the fastest here.
        training=TrainingSettings(epochs=1, batch_size=10, optimizer="adam", lr=1e-3, compute="float32-channels-last"),
        scheme=SchemeSettings(
            lpr=cell.lpr,
            granularity="tensor" if authors else "layer",
            weights="uniform" if authors else "samples",
            personal_heads="reset" if authors else "persist",
        ),
        rounds=RoundSettings(
            count=size.rounds, devices_per_round=size.cohort, min_devices=size.cohort, keep_checkpoints=1
        ),
        fleet=FleetSettings(devices=size.devices, depth_mix=cell.depth_mix, depth_draw=authors),
        simulation=SimulationSettings(evaluate_every=size.every, evaluate_last=size.reported),
    )


def result(cell: Cell, size: Size, summary: Summary, blueprint: Blueprint) -> dict[str, Any]:
    """What is kept of a run.

    Returns:
        ``accuracy`` by evaluated round (of the full depth, from 0 to 1), ``reported`` (the last rounds of it),
        communication in thousands of parameters a client and round and forward MACs in millions, each ``expected`` and
        ``realised``, ``silent`` (rounds in which nobody sent a unit, by unit), and the model's digest.
    """
    full = blueprint.full_depth
    accuracy = {entry.round: entry.accuracy[full] for entry in summary.rounds if full in entry.accuracy}
    parts = [device for entry in summary.rounds for device in entry.devices if device.status == "contributed"]
    expected = communication(blueprint, cell.depth_mix, cell.lpr)
    return {
        "accuracy": {str(round): round_accuracy for round, round_accuracy in accuracy.items()},
        "reported": [accuracy[round] for round in sorted(accuracy)[-size.reported :]],
        "expected_kparams": expected.communication_kparams,
        "realised_kparams": statistics.fmean(part.params_down + part.params_up for part in parts) / 1e3,
        "expected_mmacs": expected.forward_mmacs,
        "realised_mmacs": statistics.fmean(blueprint.costs[part.depth - 1].forward_macs for part in parts) / 1e6,
        "updates": len(parts),
        "units": len(blueprint.global_units),
        "silent": silent_rounds(summary, (unit.id for unit in blueprint.global_units)),
        "digest": summary.final.model_digest if summary.final else "",
    }
