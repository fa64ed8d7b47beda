"""This module defines a simulation's configuration file: the tables of a fleet's file, and the virtual fleet.

docs/simulation.md describes every key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fedlp_edge.config.recipes import RecipeName, with_recipe
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import Document, load_toml
from fedlp_edge.core.blueprint import answer_mode
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.rounds.settings import RoundSettings, check_error_feedback, check_periods
from fedlp_edge.core.settings import (
    Count,
    EvaluationSettings,
    ModelChoice,
    ModelSettings,
    NotNegative,
    PlannerSettings,
    Positive,
    Processor,
    SchemeSettings,
    ServerSettings,
    TrainingSettings,
    UpdateSettings,
    check_choice,
    check_evaluation,
    check_exits,
    check_schedule,
    check_training,
)
from fedlp_edge.errors import ConfigError, DataError
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.reporting.judged_rounds import Judging
from fedlp_edge.wire.admission import AdmissionLimits

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="1 to 64 letters, digits, dots, dashes and underscores, in quotes",
    ),
]
EngineName = Literal["local", "ray"]

SUM_TOLERANCE = 1e-6


class SimulatedData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data that the virtual devices train on and the server evaluates with.

    Attributes:
        train: Data specification, without a share, whose training split is partitioned among the devices.
        evaluate: Data specification whose test split the global model is evaluated on; empty for no evaluation.
        partition: Partitioner of the samples.
        limit: Largest number of samples per device; 0 for its whole share.
        seed: Seed of the partition; by default the experiment's.
    """

    train: str = "fashion-mnist"
    evaluate: str = "fashion-mnist"
    partition: str = "iid"
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None = None

    def __post_init__(self) -> None:
        for name, check in {"train": parse_spec, "evaluate": parse_spec, "partition": parse_partitioner}.items():
            text = getattr(self, name)
            try:
                if text or name != "evaluate":
                    check(text)
            except DataError as error:
                raise ValueError(f"{name}: {error}") from None


class FleetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the virtual devices that take part.

    Attributes:
        devices: Number of devices.
        depth_mix: Share of the devices that can train at most depth 1, 2, ..., D; empty leaves that to the planner.
            ``[scheme] depth`` decides which depth a device then gets.
        depth_draw: Whether each device draws its depth from the mix, as in the code of FedLP's authors; otherwise the
            shares are met exactly, and the devices are shuffled.
        profiles: Share of the devices by profile; empty for machines without limits.
        availability: Probability that a device is ready when a round opens.
        dropout: Probability that a device of the cohort sends no update.
    """

    devices: Count = 100
    depth_mix: tuple[NotNegative, ...] = ()
    depth_draw: bool = False
    profiles: dict[str, Positive] = {}
    availability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        for key, shares in (("depth_mix", self.depth_mix), ("profiles", tuple(self.profiles.values()))):
            if shares and abs(sum(shares) - 1) > SUM_TOLERANCE:
                raise ValueError(f"the shares of {key} sum to {sum(shares):g}; they must sum to 1")
        if self.depth_draw and not self.depth_mix:
            raise ValueError("depth_draw draws from depth_mix, which is missing")


class SimulationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the computation, which do not change the model.

    Attributes:
        engine: Engine: ``local`` uses processes of this machine, ``ray`` a Ray cluster.
        workers: Number of processes that train, with one thread each; 0 for one per core.
        device: Processor that the workers compute on: ``cpu``, ``cuda`` for a GPU that they share, or ``auto`` for a
            GPU where one works. The last bits of a model differ between processors.
        evaluate_every: Rounds between two evaluations.
        evaluate_last: Number of last rounds that are all evaluated.
    """

    engine: EngineName = "local"
    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    device: Processor = "cpu"
    evaluate_every: Count = 1
    evaluate_last: Count = 1

    def __post_init__(self) -> None:
        if self.device != "cpu" and self.engine == "ray":
            raise ValueError('device = "cpu" alone goes with engine = "ray": its actors ask for no GPU')


class ExportChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that a run ends with.

    Attributes:
        model: Model of the ``last`` round, or of the ``best`` by ``[evaluation] metric``.
        answer: What models answer with, by which they are judged: ``auto``, the mean of the exits where all devices
            teach and share them, or the ``exit`` of their depth in any case.
    """

    model: ModelChoice = "last"
    answer: WantedAnswer = "auto"


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a virtual fleet and its run.

    Attributes:
        name: Name of the experiment, for reports and directories.
        seed: Seed of every random draw.
        recipe: Name of the recipe whose settings were added to the file; the settings alone have an effect.
    """

    name: Name = "simulation"
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 1
    recipe: RecipeName | None = None
    model: ModelSettings = ModelSettings()
    data: SimulatedData = SimulatedData()
    training: TrainingSettings = TrainingSettings()
    scheme: SchemeSettings = SchemeSettings()
    update: UpdateSettings = UpdateSettings()
    planner: PlannerSettings = PlannerSettings()
    server: ServerSettings = ServerSettings()
    rounds: RoundSettings = RoundSettings()
    limits: AdmissionLimits = AdmissionLimits()
    evaluation: EvaluationSettings = EvaluationSettings()
    export: ExportChoice = ExportChoice()
    fleet: FleetSettings = FleetSettings()
    simulation: SimulationSettings = SimulationSettings()

    def __post_init__(self) -> None:
        if self.rounds.min_devices > self.fleet.devices:
            raise ValueError(
                f"rounds.min_devices ({self.rounds.min_devices}) is more than fleet.devices ({self.fleet.devices})"
            )
        check_exits(self.model, self.training)
        check_training(self.model, self.training)
        check_schedule(self.training, self.rounds.count)
        central = bool(self.data.evaluate)
        check_evaluation(self.evaluation, central=central)
        check_choice(self.export.model, self.model, self.evaluation, central=central)
        check_periods(self.scheme, self.rounds)
        check_error_feedback(self.update, self.rounds)

    @property
    def judging(self) -> Judging:
        """How the rounds are judged."""
        central = bool(self.data.evaluate)
        return Judging(self.evaluation, self.export.model, self.model.task, central, self.rounds.count, self.answer)

    @property
    def answer(self) -> AnswerMode:
        """What exported models answer with, by which they are judged."""
        return answer_mode(self.model.exits, self.model.head_mode, self.export.answer)

    @property
    def planning_rules(self) -> PlanningRules:
        """Returns the rules by which all devices are planned."""
        return PlanningRules(self.scheme, self.update, self.planner, self.training, self.rounds.deadline_seconds)

    @property
    def identity(self) -> str:
        """Digest of all settings that decide about the model; a run cannot continue when it has changed."""
        rounds = msgspec.structs.replace(self.rounds, count=1, keep_checkpoints=0)
        scheme = (self.scheme, self.update, self.planner)
        parts: tuple[object, ...] = (self.seed, self.model.identified, self.data, self.training, *scheme, self.server)
        parts = (*parts, self.fleet, rounds)
        if self.limits != AdmissionLimits():
            parts = (*parts, self.limits)
        if self.holdout_share:
            parts = (*parts, self.holdout_share)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    @property
    def holdout_share(self) -> float:
        """Share of its samples that each device keeps out of training."""
        return self.evaluation.holdout_share(central=bool(self.data.evaluate))

    @property
    def run_name(self) -> str:
        """Name of the run in files and reports."""
        return f"{self.name[:48]}-{self.identity[:12]}"

    def is_evaluated(self, round: int) -> bool:
        """Returns whether the model after ``round`` is evaluated."""
        settings = self.simulation
        last = round > self.rounds.count - settings.evaluate_last
        return bool(self.data.evaluate) and (last or round % settings.evaluate_every == 0)


def load_experiment(path: Path | str) -> Experiment:
    """Reads an experiment's file.

    Raises:
        ConfigError: The file is missing or has a wrong key or value; one line with file, line and allowed values.
    """
    return load_toml(Path(path), Experiment, lambda document: with_recipe(_of_an_experiment(document)), RENAMED)


def _of_an_experiment(document: Document) -> Document:
    if isinstance(document.get("fleet"), str) or "broker" in document:
        raise ConfigError(
            "this is the file of a real fleet, for fedlp-coordinator; an experiment's has a name and [fleet] devices "
            "(docs/simulation.md)"
        )
    return document
