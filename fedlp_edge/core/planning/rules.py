"""What a run lays down for the plans of all its devices."""

from __future__ import annotations

import msgspec

from fedlp_edge.core.settings import PlannerSettings, SchemeSettings, TrainingSettings, UpdateSettings

TIME_SHARE = 0.8
"""Share of the deadline that a plan may fill; the rest is for queues, evaluation of the link, bad luck."""


class PlanningRules(msgspec.Struct, frozen=True):
    """The settings that a plan follows, whichever device it is for.

    Attributes:
        scheme: Whose depth and rate are planned where they are ``"auto"``, and dictated otherwise.
        update: Whose encoding is planned where it is ``"auto"``, and dictated otherwise.
        planner: Settings of memory and of promotion, which say whether devices are promoted.
        training: Batch size, epochs and optimiser, which enter memory and time.
        deadline_seconds: Seconds of a round.
    """

    scheme: SchemeSettings = SchemeSettings()
    update: UpdateSettings = UpdateSettings()
    planner: PlannerSettings = PlannerSettings()
    training: TrainingSettings = TrainingSettings()
    deadline_seconds: float = 300.0

    @property
    def planned_seconds(self) -> float:
        """The time of a round that a plan may fill."""
        return TIME_SHARE * self.deadline_seconds
