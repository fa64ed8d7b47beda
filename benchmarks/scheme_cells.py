"""The experiments of the comparison at equal cost, each as a cell with a name, and what is kept of each.

What FedLP-Hetero costs in a number of rounds is everybody's budget, once in bytes and once in multiply-accumulates.
Each scheme does as many rounds as the budget pays for. Which devices a round has follows from the seed, so the number
is known before: nothing is chosen by looking at a result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from benchmarks.cells import Size, silent_rounds
from fedlp_edge.config.recipes import RECIPES, RecipeName, with_recipe
from fedlp_edge.core.accounting import upload_bytes
from fedlp_edge.core.algorithm.selection import draw_cohort
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.reporting.summary import RoundSummary, Summary
from fedlp_edge.simulation import Experiment
from fedlp_edge.simulation.fleet import make_fleet
from fedlp_edge.simulation.simulated_data import assign_data, read_simulation_data

Condition = Literal["plain", "adjusted", "tricks"]
Budget = Literal["bytes", "macs"]

CONDITIONS: tuple[Condition, ...] = ("plain", "adjusted", "tricks")
BUDGETS: tuple[Budget, ...] = ("bytes", "macs")
REFERENCE = "fedlp-hetero"
OURS: RecipeName = "fedlp-plus"
RIVALS = ("fedlp-hetero", "heterofl", "heterofl-wide", "depthfl", "depthfl-large")
"""What ours is to beat, with variants of two; the other schemes are yardsticks."""

TRICKED = ("heterofl", "depthfl")
"""Rivals that get all our tricks as well; FedLP-Hetero with them is ours."""

SCHEMES = ("fedavg", "fedavg-full", *RIVALS, OURS)
MIXES = {"u": (0.2, 0.2, 0.2, 0.2, 0.2), "1": (0.6, 0.1, 0.1, 0.1, 0.1)}
"""Share of the devices that can bear depth 1 to 5: all the same, and the authors' flag 1."""

PARTITIONS = ("mixed:0.95", "iid")

VARIANTS: dict[str, tuple[RecipeName, dict[str, Any]]] = {
    "heterofl-wide": ("heterofl", {"width_ratios": [0.5, 0.625, 0.75, 0.8125, 1.0]}),
    "depthfl-large": ("depthfl", {"exit_heads": "model"}),
}
"""Recipes with other values of ``[model]``: the widest levels of ``fedlp-cnn-narrow`` that compute no more than depths
1 to 5 of it, and the large heads that the network brings along in the place of pooled ones."""

TRAINING = 3
"""Forward passes that a training step counts as: the backward pass computes two products per forward one."""

ENSEMBLES = frozenset({"depthfl", "depthfl-large"})
"""Schemes that answer with the mean of all exits; the others answer with the classifier."""


FULL = Size(rounds=30)
QUICK = Size(data="digits", input=(1, 8, 8), devices=10, cohort=4, rounds=3, reported=2, every=2, limit=30)


@dataclass(frozen=True)
class Cell:
    """One experiment.

    Attributes:
        condition: ``plain`` as published; ``adjusted`` with client logit adjustment; ``tricks`` with all of our
            recipe that has nothing to do with which part of a model a device trains.
        scheme: name of a recipe or of one of ``VARIANTS``.
        mix: of depths.
        partition: of the data.
        seed: of everything.
    """

    condition: Condition
    scheme: str
    mix: str
    partition: str
    seed: int

    @property
    def name(self) -> str:
        """``plain/depthfl/u/mixed:0.95/1``."""
        return f"{self.condition}/{self.scheme}/{self.mix}/{self.partition}/{self.seed}"


def cells(seeds: Sequence[int], schemes: Sequence[str] = SCHEMES) -> Iterator[Cell]:
    """All cells, the first seed's first, and of those the ones that the goal is about.

    Ours contains the tricks, so it is under ``tricks`` alone. Logit adjustment is about skewed labels, so on ``iid``
    there is ``plain`` alone for the others, without variants. FedAvg gives everyone the whole model, so one mix says
    it all.
    """
    for seed, partition, mix, condition in itertools.product(seeds, PARTITIONS, MIXES, CONDITIONS):
        for scheme in schemes:
            cell = Cell(condition, scheme, mix, partition, seed)
            if scheme == OURS:
                wanted = condition == "tricks"
            elif condition == "tricks":
                wanted = scheme in TRICKED and partition != "iid"
            else:
                wanted = partition != "iid" or (condition == "plain" and scheme not in VARIANTS)
            if wanted and not (scheme == "fedavg" and mix != "u"):
                yield cell


def parse_cell(name: str) -> Cell:
    """The cell of a name."""
    condition, scheme, mix, partition, seed = name.split("/")
    return Cell(condition, scheme, mix, partition, int(seed))  # type: ignore[arg-type]  # checked by what reads it


def experiment(cell: Cell, size: Size, rounds: int) -> Experiment:
    """What is simulated for a cell.

    Args:
        cell: which.
        size: of all.
        rounds: how many.
    """
    recipe, changed = VARIANTS.get(cell.scheme, (cell.scheme, {}))
    document: dict[str, Any] = {
        "name": "comparison",
        "seed": cell.seed,
        "recipe": recipe,
        "model": {"name": "fedlp-cnn-narrow", "input": list(size.input), **changed},
        "data": {"train": size.data, "evaluate": size.data, "partition": cell.partition, "limit": size.limit},
        # The mode is pinned, so that a cell ends with the same bits whenever it is computed.
        "training": {
            "epochs": 1,
            "batch_size": 10,
            "optimizer": "adam",
            "lr": 1e-3,
            "compute": "float32-channels-last",
        },
        "rounds": {"count": rounds, "devices_per_round": size.cohort, "keep_checkpoints": 1},
        "fleet": {"devices": size.devices, "depth_mix": list(MIXES[cell.mix])},
        "simulation": {"evaluate_every": size.every, "evaluate_last": size.reported},
    }
    if cell.condition == "adjusted":
        document["training"]["objective"] = {"logit_adjustment": 1.0}
    elif cell.condition == "tricks":
        ours = RECIPES[OURS]
        document["training"]["objective"] = {"logit_adjustment": ours["training"]["objective"]["logit_adjustment"]}
        document["update"] = dict(ours["update"])
        document["server"] = dict(ours["server"])
        document["rounds"] |= ours["rounds"]
    return msgspec.convert(with_recipe(document), Experiment)


@dataclass(frozen=True)
class Cost:
    """Of all devices of a round, or of several rounds.

    Attributes:
        bytes: of model values down and updates up, headers left out.
        macs: of training, forward and backward.
    """

    bytes: int
    macs: int


def cost_by_round(wanted: Experiment, blueprint: Blueprint) -> Iterator[Cost]:
    """What each round of an experiment without faults will cost, from the first on, without end."""
    pictures = read_simulation_data(wanted.data.train, wanted.data.evaluate)
    fleet = make_fleet(wanted, blueprint, assign_data(wanted, pictures))
    depths = {device: virtual.plan.depth for device, virtual in fleet.items() if virtual.plan.depth}
    size = wanted.rounds.devices_per_round
    likely = wanted.rounds.preference(depths, size)
    for round in itertools.count(1):
        nbytes = macs = 0
        for device in draw_cohort(depths, size, seed=wanted.seed, round=round, preference=likely):
            plan, place = fleet[device].plan, fleet[device].member
            units = blueprint.exchanged_by(plan.depth)
            nbytes += sum(unit.nbytes + upload_bytes(unit, plan.encoding) for unit in units)
            forward = blueprint.costs[plan.depth - 1].forward_macs
            macs += TRAINING * forward * place.samples * wanted.training.epochs
        yield Cost(nbytes, macs)


def total(costs: Iterator[Cost], rounds: int) -> Cost:
    """Of the first rounds together."""
    first = list(itertools.islice(costs, rounds))
    return Cost(sum(cost.bytes for cost in first), sum(cost.macs for cost in first))


def rounds_for(costs: Iterator[Cost], budget: Cost) -> dict[Budget, int]:
    """How many rounds each budget pays for, at least one: the number whose cost is nearest."""
    rounds: dict[Budget, int] = {}
    spent = Cost(0, 0)
    for number, cost in enumerate(costs, start=1):
        after = Cost(spent.bytes + cost.bytes, spent.macs + cost.macs)
        for kind in BUDGETS:
            limit, low, high = getattr(budget, kind), getattr(spent, kind), getattr(after, kind)
            if kind not in rounds and high >= limit:
                rounds[kind] = number if high - limit <= limit - low or number == 1 else number - 1
        if len(rounds) == len(BUDGETS):
            break
        spent = after
    return rounds


def answer(cell: Cell, entry: RoundSummary) -> float | None:
    """What the global model is judged by, chosen beforehand; None if the round was not evaluated."""
    said = entry.ensemble or entry.accuracy if cell.scheme in ENSEMBLES else entry.accuracy
    return said[max(said)] if said else None


def result(cell: Cell, size: Size, summary: Summary, rounds: dict[Budget, int]) -> dict[str, Any]:
    """What is kept of a run.

    Returns:
        ``accuracy`` by evaluated round (of the answer, from 0 to 1); by budget the ``rounds`` that it paid for and the
        ``reported`` accuracies of the last of them; ``megabytes`` by evaluated round (counted, with headers);
        ``exits`` and ``tiers`` of the last round; ``silent`` (rounds in which nobody sent a unit, by unit).
    """
    accuracy = {entry.round: said for entry in summary.rounds if (said := answer(cell, entry)) is not None}
    sent = list(itertools.accumulate(sum(d.bytes_down + d.bytes_up for d in entry.devices) for entry in summary.rounds))
    last = summary.rounds[-1]
    return {
        "accuracy": {str(round): said for round, said in accuracy.items()},
        "rounds": dict(rounds),
        "reported": {
            kind: [accuracy[round] for round in range(max(1, count - size.reported + 1), count + 1)]
            for kind, count in rounds.items()
        },
        "megabytes": {str(round): sent[round - 1] / 1e6 for round in accuracy},
        "exits": {str(depth): share for depth, share in last.accuracy.items()},
        "tiers": {str(depth): share for depth, share in last.tiers.items()},
        "silent": silent_rounds(summary, last.coverage),
        "digest": summary.final.model_digest if summary.final else "",
    }
