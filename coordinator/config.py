"""Reads the fleet's one TOML file, whose keys docs/configuration.md describes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from coordinator.monitoring.settings import MonitoringSettings
from fedlp_edge.config.recipes import RecipeName, with_recipe
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import Document, load_toml
from fedlp_edge.core.blueprint import answer_mode
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.rounds.settings import RoundSettings, check_error_feedback, check_periods
from fedlp_edge.core.settings import (
    EvaluationSettings,
    ModelChoice,
    ModelSettings,
    PlannerSettings,
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
from fedlp_edge.errors import ConfigError
from fedlp_edge.reporting.judged_rounds import Judging
from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.wire.admission import AdmissionLimits
from fedlp_edge.wire.messages import Name


class DataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the data that the coordinator itself needs.

    Attributes:
        evaluate: Specification of held-out data (its test split); empty where the devices alone judge the model.
    """

    evaluate: str = ""


class ExportSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the ONNX files at the end of a run.

    Attributes:
        depths: ``all``, ``full``, ``none``, or a list of depths.
        model: Model that is exported: that of the ``last`` round, or of the ``best`` by ``[evaluation] metric``.
        answer: What the files answer with: ``auto``, the mean of the exits where all devices teach and share them, or
            the ``exit`` of their depth in any case.
        license: Licence of the weights that the files state, as an SPDX expression or in words; empty to state none.
    """

    depths: Literal["all", "full", "none"] | tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = "all"
    model: ModelChoice = "last"
    answer: WantedAnswer = "auto"
    license: Annotated[str, msgspec.Meta(max_length=200)] = ""


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of a fleet and of its run.

    Attributes:
        fleet: Name of the fleet, a level of its topics.
        run: Name of the run; by default derived from everything that defines it.
        seed: Seed of every draw.
        recipe: Named settings that filled in what the file does not say; it says nothing beside them.
    """

    fleet: Name
    run: Name | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 1
    recipe: RecipeName | None = None
    broker: BrokerSettings = msgspec.field(default_factory=BrokerSettings)
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    scheme: SchemeSettings = SchemeSettings()
    update: UpdateSettings = UpdateSettings()
    planner: PlannerSettings = PlannerSettings()
    server: ServerSettings = ServerSettings()
    rounds: RoundSettings = RoundSettings()
    limits: AdmissionLimits = AdmissionLimits()
    evaluation: EvaluationSettings = EvaluationSettings()
    export: ExportSettings = ExportSettings()
    monitoring: MonitoringSettings = MonitoringSettings()

    def __post_init__(self) -> None:
        check_exits(self.model, self.training)
        check_training(self.model, self.training)
        check_schedule(self.training, self.rounds.count)
        central = bool(self.data.evaluate)
        check_evaluation(self.evaluation, central=central)
        check_choice(self.export.model, self.model, self.evaluation, central=central)
        if self.model.scaling == "width":
            raise ValueError('[model] scaling = "width" is a baseline for simulations; a fleet scales by "depth"')
        check_periods(self.scheme, self.rounds)
        check_error_feedback(self.update, self.rounds)

    @property
    def deciding(self) -> dict[str, object]:
        """All settings that decide what is learned, by table or key; a run cannot go on when one has changed.

        The broker, times, the number of rounds, what is judged on, and the export may change between two starts, but
        not what devices keep out of training.
        """
        selection = {f"[rounds] {key}": value for key, value in self.rounds.selection.items()}
        tables = ("fleet", "seed", "model", "training", "scheme", "update", "planner", "server")
        held_out = {"[evaluation] holdout": self.holdout_share} if self.holdout_share else {}
        return (
            {table: getattr(self, table) for table in tables} | {"model": self.model.identified} | selection | held_out
        )

    @property
    def holdout_share(self) -> float:
        """Share of its samples that each device keeps out of training."""
        return self.evaluation.holdout_share(central=bool(self.data.evaluate))

    @property
    def judging(self) -> Judging:
        """The settings by which the rounds are judged."""
        central = bool(self.data.evaluate)
        return Judging(self.evaluation, self.export.model, self.model.task, central, self.rounds.count, self.answer)

    @property
    def answer(self) -> AnswerMode:
        """What exported models answer with, by which they are judged."""
        return answer_mode(self.model.exits, self.model.head_mode, self.export.answer)

    @property
    def planning_rules(self) -> PlanningRules:
        """The rules that the plans of all devices follow."""
        return PlanningRules(self.scheme, self.update, self.planner, self.training, self.rounds.deadline_seconds)

    @property
    def identity(self) -> str:
        """The digest of all settings that decide what is learned."""
        return hashlib.sha256(msgspec.json.encode(self.deciding)).hexdigest()

    @property
    def run_name(self) -> str:
        """The name of the run, on the wire and in files."""
        return self.run or f"{self.fleet[:48]}-{self.identity[:12]}"


def load_config(path: Path) -> FleetConfig:
    """Reads a fleet's file.

    Raises:
        ConfigError: One line with the file, the line and what is allowed.
    """
    return load_toml(path, FleetConfig, lambda document: with_recipe(_of_a_coordinator(document)), RENAMED)


def _of_a_coordinator(document: Document) -> Document:
    if isinstance(document.get("data"), str):
        raise ConfigError(
            "this is an agent's file; a coordinator's has [model], [data] and [rounds] (docs/configuration.md)"
        )
    if isinstance(document.get("fleet"), dict) and ("name" in document or "simulation" in document):
        raise ConfigError("this is an experiment's file, for fedlp simulate; a coordinator's has fleet = NAME")
    return document
