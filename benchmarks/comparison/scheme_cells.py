"""The experiments of the comparison at equal cost, each as a cell with a name, and what is kept of each.

What FedLP-Hetero costs in a number of rounds is everybody's budget, once in bytes and once in multiply-accumulates.
Each scheme does as many rounds as the budget pays for. Which devices a round has follows from the seed, so the number
is known before. In cells of equal memory a device trains the largest part of the model that fits where the front
layers with small heads do, in as many tasks as FedLP-Hetero has; ``scheme_memory.py`` says what fits.

Whatever is tuned is tuned on validation samples, held out of the training split, with as many trials for each scheme.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import msgspec

from benchmarks.comparison.scheme_memory import memory_shares
from benchmarks.comparison.studies import FASHION_MNIST, SKEWED, Study
from benchmarks.results.cells import Result, silent_rounds
from benchmarks.rivals import importance_masks
from benchmarks.rivals.importance_masks import ImportanceModel
from benchmarks.rivals.rolling_window import RollingModel
from fedlp_edge.config.recipes import RECIPES, RecipeName, with_recipe
from fedlp_edge.core.accounting import download_bytes, upload_bytes
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.selection import draw_cohort
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.reporting.summary import RoundSummary, Summary
from fedlp_edge.simulation import Experiment
from fedlp_edge.simulation.fleet import make_fleet
from fedlp_edge.simulation.simulated_data import assign_data, read_simulation_data

Condition = Literal["plain", "adjusted", "tricks", "tricks+int8"]
Equality = Literal["bytes", "macs", "memory"]
Place = tuple[str, str, Equality]
"""Scheme, mix and budget."""

Document = dict[str, Any]

CONDITIONS: tuple[Condition, ...] = get_args(Condition)
WITH_TRICKS: tuple[Condition, ...] = ("tricks", "tricks+int8")
"""Conditions with all of our recipe, of which the second also broadcasts the weights as ``int8``."""

EQUALITIES: tuple[Equality, ...] = get_args(Equality)
BUDGETS: tuple[Literal["bytes", "macs"], ...] = ("bytes", "macs")
"""Equalities that limit the rounds; one run serves both."""

OURS = ("fedlp-exits", "fedlp-hetero")
"""With every trick they are the recipes ``fedlp-exits``, which broadcasts as ``int8`` and draws devices evenly besides,
and ``fedlp-plus``."""

REFERENCE = "fedlp-hetero"
"""As published it is the budget of all."""

BROADCAST = "int8"
"""Encoding of the weights on their way to the devices under ``tricks+int8``: its bytes, scales included, are known
before a run, where those behind a compression are not."""

TRICKS = RECIPES["fedlp-plus"]
"""Settings of which every scheme gets those that have nothing to do with which part of a model a device trains."""

LEARNING_FROM_ALL: Document = {
    key: RECIPES["fedlp-exits"]["training"]["objective"][key] for key in ("distillation", "distillation_teacher")
}
"""What ``fedlp-exits`` minimises besides, in place of DepthFL's distillation: its exits learn from the mean of all."""

DYNAMIC, DYNAMIC_LARGE = "depthfl-feddyn", "depthfl-large-feddyn"
"""DepthFL with FedDyn's dynamic regularisation, of ``benchmarks/rivals/dynamic_regularisation.py``, as its authors have
it; and with large heads besides."""

WITH_FEDDYN = frozenset({DYNAMIC, DYNAMIC_LARGE})

RIVALS = (
    "fedavg-full",
    "heterofl",
    "heterofl-wide",
    "fedrolex",
    "fiarse",
    "depthfl",
    DYNAMIC,
    "depthfl-large",
    DYNAMIC_LARGE,
    "scalefl",
    "reefl",
)
"""What ours are to beat: schemes that unequal devices can run, with variants of two."""

UNREACHABLE = "fedavg"
"""Everybody trains everything, which the devices of these fleets cannot do: a yardstick."""

SCHEMES = (UNREACHABLE, *RIVALS, *OURS)
MIXES = {"u": (0.2, 0.2, 0.2, 0.2, 0.2), "1": (0.6, 0.1, 0.1, 0.1, 0.1)}
"""Share of the devices that can bear depth 1 to 5: all the same, and the authors' flag 1."""

VARIANTS: dict[str, tuple[RecipeName, dict[str, Any]]] = {
    "heterofl": ("heterofl", {"width_ratios": [0.25, 0.375, 0.5, 0.75, 1.0]}),
    "heterofl-wide": ("heterofl", {"width_ratios": "WIDE"}),
    "fedrolex": ("heterofl", {"width_ratios": "WIDE"}),
    "fiarse": ("inclusivefl", {"name": "benchmarks.rivals.importance_masks:DATA", "exit_heads": "model"}),
    DYNAMIC: ("depthfl", {}),
    "depthfl-large": ("depthfl", {"exit_heads": "model"}),
    DYNAMIC_LARGE: ("depthfl", {"exit_heads": "model"}),
    "scalefl": ("inclusivefl", {"name": "benchmarks.rivals.scaled_exits:DATA", "exit_heads": "model"}),
    "reefl": ("inclusivefl", {"name": "benchmarks.rivals.recurrent_exits:text", "exit_heads": "model"}),
    "fedlp-exits": ("depthfl", {"exit_heads": "max-pooled"}),
}
"""Recipes with other values of ``[model]``. HeteroFL's own levels from 1/16 would leave a single channel of the first
eight at both 1/16 and 1/8, where its authors' narrowest network has four, so levels begin with two channels and all
differ. The wide levels, ``WIDE``, are those of the study: the widest that compute no more than depths 1 to 5; FedRolex
has them, too. ``DATA`` stands for the name of the data set: a model of ``benchmarks/rivals`` is made for its samples.
ReeFL's is a transformer for those of the study of text.
The large heads are those that ``fedlp-cnn-narrow`` brings along, in the place of pooled ones."""

IN_MEMORY: dict[str, dict[str, Any]] = {
    REFERENCE: {"exit_heads": "pooled"},
    "heterofl-wide": {"width_ratios": [0.375, 0.5625, 0.75, 0.875, 1.0]},
    "fedrolex": {"width_ratios": [0.375, 0.5625, 0.75, 0.875, 1.0]},
}
"""What of ``[model]`` differs in cells of equal memory: with its large heads, a device of depth 1 of FedLP-Hetero would
take more memory than the whole model; the wide levels are the widest, in steps of 1/32, that fit."""

NOT_IN_MEMORY = frozenset({UNREACHABLE, *WITH_FEDDYN, "depthfl-large", "fiarse", "scalefl"})
"""Schemes whose smallest part does not fit the weakest device in cells of equal memory, or whose whole does not fit the
strongest one, as that of ScaleFL, with 9.5 of 9.2 MB. FIARSE leaves single weights out and keeps all activations, which
are most of the memory. With FedDyn, a device keeps what its rounds have changed besides, which was not measured."""

GLOBAL_MODELS: dict[str, type[GlobalModel]] = {"fedrolex": RollingModel, "fiarse": ImportanceModel}
"""Server steps of schemes that have their own."""

WARM_UP = 0.3
"""Share of the rounds in which DepthFL's distillation rises, as in its paper: 300 of 1,000."""

SETTINGS: tuple[tuple[str, Document], ...] = (
    ("as in `fedlp-plus`", {}),
    ("devices drawn evenly", {"rounds": {"prefer_deepest": 1.0}}),
    ("the server adds the mean", {"server": {"optimizer": "plain", "lr": 1.0}}),
    ("twice the step size on the devices", {"training": {"lr": 2e-3}}),
)
"""Settings tried for each scheme with all tricks, on validation samples, by a name and what differs."""

UNDISTILLED: tuple[str, Document] = ("no distillation", {"training": {"objective": {"distillation": 0.0}}})
"""What schemes that distil try in place of the last one."""

TRAINING = 3
"""Forward passes that a training step counts as: the backward pass computes two products per forward one."""

DISTILLING = frozenset({"depthfl", "depthfl-large", *WITH_FEDDYN})
"""Schemes that have the distillation of the recipe ``depthfl``."""

ENSEMBLES = frozenset({*DISTILLING, "scalefl", "fedlp-exits"})
"""Schemes that answer with the mean of all exits; the others answer with the classifier."""


@dataclass(frozen=True)
class Cell:
    """One experiment.

    Attributes:
        condition: ``plain`` as published; ``adjusted`` with client logit adjustment; ``tricks`` with all of our
            recipe that has nothing to do with which part of a model a device trains; ``tricks+int8`` with weights
            broadcast as ``int8`` besides, for which equal bytes pay for more rounds.
        scheme: name of a recipe or of one of ``VARIANTS``.
        mix: of depths.
        partition: of the data.
        seed: of everything.
        memory: whether devices have equal memory, instead of a run having equal bytes or computation.
        setting: number of the setting, see ``settings_of``.
        validation: whether the model is trained without the validation samples and judged on them.
    """

    condition: Condition
    scheme: str
    mix: str
    partition: str
    seed: int
    memory: bool = False
    setting: int = 0
    validation: bool = False

    @property
    def name(self) -> str:
        """``tricks/depthfl/u/mixed:0.95/1``, and what is not usual: ``/memory``, ``/setting-2``, ``/validation``."""
        usual = f"{self.condition}/{self.scheme}/{self.mix}/{self.partition}/{self.seed}"
        memory = "/memory" if self.memory else ""
        setting = f"/setting-{self.setting}" if self.setting else ""
        return usual + memory + setting + ("/validation" if self.validation else "")

    @property
    def equalities(self) -> tuple[Equality, ...]:
        """What it answers for."""
        return ("memory",) if self.memory else BUDGETS


def parse_cell(name: str) -> Cell:
    """The cell of a name."""
    condition, scheme, mix, partition, seed, *unusual = name.split("/")
    settings = [int(word.removeprefix("setting-")) for word in unusual if word.startswith("setting-")]
    return Cell(
        condition,  # type: ignore[arg-type]  # checked by what reads it
        scheme,
        mix,
        partition,
        int(seed),
        memory="memory" in unusual,
        setting=settings[0] if settings else 0,
        validation="validation" in unusual,
    )


def settings_of(scheme: str) -> tuple[tuple[str, Document], ...]:
    """The settings tried for a scheme: a name and what differs from the first one. There are as many for each."""
    return (*SETTINGS[:-1], UNDISTILLED) if scheme in DISTILLING else SETTINGS


def trials(schemes: Sequence[str] = SCHEMES, seed: int = 1) -> Iterator[Cell]:
    """The cells that settings are chosen by."""
    for mix, scheme in itertools.product(MIXES, FASHION_MNIST.compared(schemes)):
        for setting in range(len(settings_of(scheme))):
            yield Cell("tricks", scheme, mix, SKEWED, seed, setting=setting, validation=True)


def chosen_settings(done: Mapping[str, Result]) -> dict[Place, int]:
    """The number of the best setting by scheme, mix and budget, where all of the scheme's trials are finished.

    Best is the highest accuracy on the validation samples that the budget pays for.
    """
    by_place: dict[Place, dict[int, float]] = {}
    for name, found in done.items():
        cell = parse_cell(name)
        if cell.validation and cell.condition == "tricks" and not cell.memory:
            for budget in BUDGETS:
                by_place.setdefault((cell.scheme, cell.mix, budget), {})[cell.setting] = value_of(found, budget)
    return {
        place: max(values, key=lambda setting: (values[setting], -setting))
        for place, values in by_place.items()
        if len(values) == len(settings_of(place[0]))
    }


def cells(
    seeds: Sequence[int],
    published_seeds: Sequence[int] | None = None,
    schemes: Sequence[str] = SCHEMES,
    chosen: Mapping[Place, int] | None = None,
    study: Study = FASHION_MNIST,
) -> Iterator[Cell]:
    """All cells of the test split, the first seed's first, and of those the ones that decide.

    Args:
        seeds: of the cells with all tricks, which decide.
        published_seeds: of the cells as published and with logit adjustment; None for the same.
        schemes: of the cells, unless the study leaves them out.
        chosen: numbers of the settings that were best in the trials; what decides has a cell with each of them, too.
        study: what is compared on.
    """
    published = seeds if published_seeds is None else published_seeds
    for seed in sorted({*seeds, *published}):
        for partition, mix, condition in itertools.product(
            study.partitions, MIXES, ("tricks", "tricks+int8", "plain", "adjusted")
        ):
            if seed not in (seeds if condition in WITH_TRICKS else published):
                continue
            for scheme in study.compared(schemes):
                cell = Cell(condition, scheme, mix, partition, seed)  # type: ignore[arg-type]
                numbers = {0}
                if condition in WITH_TRICKS and partition == study.partitions[0]:
                    best = {(chosen or {}).get((scheme, mix, budget), 0) for budget in BUDGETS}
                    # Broadcast as int8, the best settings alone are compared.
                    numbers = best if condition == "tricks+int8" else {0} | best
                yield from (replace(cell, setting=number) for number in sorted(numbers))
                if condition == "tricks" and study.equal_memory and scheme not in NOT_IN_MEMORY:
                    yield replace(cell, memory=True)


def experiment(cell: Cell, study: Study, rounds: int, planned: int | None = None) -> Experiment:
    """What is simulated for a cell.

    Args:
        cell: which.
        study: what is compared on.
        rounds: how many.
        planned: rounds of the whole run, by which DepthFL's distillation rises; None for ``rounds``.
    """
    recipe, changed = VARIANTS.get(cell.scheme, (cell.scheme, {}))
    if cell.memory:
        changed = {**changed, **IN_MEMORY.get(cell.scheme, {})}
    if "name" in changed:
        changed = {**changed, "name": changed["name"].replace("DATA", study.data.replace("-", "_"))}
    if changed.get("width_ratios") == "WIDE":
        changed = {**changed, "width_ratios": list(study.wide_levels)}
    train, evaluate = study.sources(cell.seed, validation=cell.validation)
    document: Document = {
        "name": "comparison",
        "seed": cell.seed,
        "recipe": recipe,
        "model": {"name": study.model, "input": list(study.input), "classes": study.classes, **changed},
        "data": {"train": train, "evaluate": evaluate, "partition": cell.partition, "limit": study.limit},
        "export": {"answer": "auto" if cell.scheme in ENSEMBLES else "exit"},
        # The mode is pinned, so that a cell ends with the same bits whenever it is computed.
        "training": {
            "epochs": 1,
            "batch_size": 10,
            "optimizer": "adam",
            "lr": 1e-3,
            "compute": "float32-channels-last",
            "objective": {},
        },
        "server": {},
        "rounds": {"count": rounds, "devices_per_round": study.cohort, "keep_checkpoints": 1},
        "fleet": {"devices": study.devices, "depth_mix": list(MIXES[cell.mix])},
        "simulation": {"evaluate_every": study.every, "evaluate_last": study.reported},
    }
    objective = document["training"]["objective"]
    if cell.scheme == "fedlp-exits":
        objective |= LEARNING_FROM_ALL
    elif cell.scheme in DISTILLING:
        objective["distillation_rampup"] = round(WARM_UP * (planned or rounds))
    if cell.condition != "plain":
        objective["logit_adjustment"] = TRICKS["training"]["objective"]["logit_adjustment"]
    if cell.condition in WITH_TRICKS:
        document["update"] = dict(TRICKS["update"])
        if cell.condition == "tricks+int8":
            document["update"]["broadcast"] = BROADCAST
        document["server"] |= TRICKS["server"]
        document["rounds"] |= TRICKS["rounds"]
        document = _merged(document, settings_of(cell.scheme)[cell.setting][1])
    if cell.memory:
        made = msgspec.convert(with_recipe(document), Experiment)
        document["fleet"]["depth_mix"] = list(memory_shares(made, MIXES[cell.mix]))
    return msgspec.convert(with_recipe(document), Experiment)


def _merged(document: Document, changes: Document) -> Document:
    merged = dict(document)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged


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
    broadcast = wanted.update.broadcast
    if broadcast == "auto":
        raise ValueError("the bytes of a broadcast that a link chooses are not known beforehand: name an encoding")
    for round in itertools.count(1):
        nbytes = macs = 0
        for device in draw_cohort(depths, size, seed=wanted.seed, round=round, preference=likely):
            plan, place = fleet[device].plan, fleet[device].member
            if wanted.model.name.startswith(importance_masks.__name__):
                nbytes += importance_masks.travelling_bytes(blueprint, plan.depth, broadcast, plan.encoding)
            else:
                units = blueprint.exchanged_by(plan.depth)
                nbytes += sum(download_bytes(unit, broadcast) + upload_bytes(unit, plan.encoding) for unit in units)
            forward = blueprint.costs[plan.depth - 1].forward_macs
            macs += TRAINING * forward * place.samples * wanted.training.epochs
        yield Cost(nbytes, macs)


def population(wanted: Experiment, blueprint: Blueprint) -> int:
    """The update weights of all devices of an experiment together, of which a round draws some."""
    pictures = read_simulation_data(wanted.data.train, wanted.data.evaluate)
    fleet = make_fleet(wanted, blueprint, assign_data(wanted, pictures))
    return sum(virtual.member.weight for virtual in fleet.values() if virtual.plan.depth)


def total(costs: Iterator[Cost], rounds: int) -> Cost:
    """Of the first rounds together."""
    first = list(itertools.islice(costs, rounds))
    return Cost(sum(cost.bytes for cost in first), sum(cost.macs for cost in first))


def rounds_for(costs: Iterator[Cost], budget: Cost) -> dict[Equality, int]:
    """How many rounds each budget pays for, at least one: the number whose cost is nearest."""
    rounds: dict[Equality, int] = {}
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


def rounds_of_equal_tasks(wanted: Experiment, study: Study) -> int:
    """How many rounds have as many tasks as FedLP-Hetero's."""
    return max(1, round(study.rounds * study.cohort / wanted.rounds.devices_per_round))


def answer(cell: Cell, entry: RoundSummary, deepest: int) -> float | None:
    """What the global model is judged by, chosen beforehand; None if the round was not evaluated.

    Args:
        cell: which.
        entry: of the round.
        deepest: depth that some device trains; exits beyond it know nothing, so they have no say.
    """
    said = entry.ensemble or entry.accuracy if cell.scheme in ENSEMBLES else entry.accuracy
    return said.get(deepest, said[max(said)]) if said else None


def deepest_trained(wanted: Experiment) -> int:
    """The greatest depth, or level, that the mix gives a device."""
    return max(depth for depth, share in enumerate(wanted.fleet.depth_mix, start=1) if share)


def value_of(found: Result, equality: Equality) -> float:
    """The accuracy from 0 to 1 that a finished cell counts with: the mean over the last rounds that are paid for."""
    reported: Sequence[float] = found["reported"][equality]
    return sum(reported) / len(reported)


def result(
    cell: Cell, study: Study, summary: Summary, rounds: Mapping[Equality, int], macs: float, deepest: int
) -> Result:
    """What is kept of a run.

    Args:
        cell: which.
        study: what is compared on.
        summary: of its run.
        rounds: that each equality pays for.
        macs: of training in one round, on average.
        deepest: depth that some device trains.

    Returns:
        ``accuracy`` by evaluated round (of the answer, from 0 to 1); by equality the ``rounds`` that it pays for and
        the ``reported`` accuracies of the last of them; ``megabytes`` by evaluated round (counted, with headers) and
        ``gigamacs`` (on average); ``exits`` and ``tiers`` of the last round; ``silent`` (rounds in which nobody sent a
        unit, by unit).
    """
    accuracy = {entry.round: said for entry in summary.rounds if (said := answer(cell, entry, deepest)) is not None}
    sent = list(itertools.accumulate(sum(d.bytes_down + d.bytes_up for d in entry.devices) for entry in summary.rounds))
    last = summary.rounds[-1]
    return {
        "accuracy": {str(round): said for round, said in accuracy.items()},
        "rounds": dict(rounds),
        "reported": {
            kind: [accuracy[round] for round in range(max(1, count - study.reported + 1), count + 1)]
            for kind, count in rounds.items()
        },
        "megabytes": {str(round): sent[round - 1] / 1e6 for round in accuracy},
        "gigamacs": {str(round): round * macs / 1e9 for round in accuracy},
        "exits": {str(depth): share for depth, share in (last.exits or last.accuracy).items()},
        "tiers": {str(depth): share for depth, share in last.tiers.items()},
        "silent": silent_rounds(summary, last.coverage),
        "digest": summary.final.model_digest if summary.final else "",
    }
