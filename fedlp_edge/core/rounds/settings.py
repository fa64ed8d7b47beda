"""When a round opens and closes: the ``[rounds]`` table of a fleet's file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from fedlp_edge.core.rounds.preference import preference
from fedlp_edge.core.settings import Count, NotNegative, Positive, SchemeSettings, Share, UpdateSettings


class RoundSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a round opens and closes.

    Attributes:
        count: Rounds of the run.
        mode: ``synchronous`` rounds, or ``buffered`` asynchronous ones, where a device gets a new task as soon as it
            has delivered, and a version of the model is made of each ``buffer_size`` updates.
        devices_per_round: Size of the cohort; 0 takes every device that is ready.
        prefer_deepest: Factor that says how many times as likely as another a device is to be chosen whose depth is the
            greatest that is ready.
        min_holders: Devices of a cohort that should hold each layer on average, as far as there are so many; deep
            devices are preferred until they do. 0 draws evenly.
        min_devices: The first round waits for this many, and no round opens with fewer; whoever is there and turned
            out to be unable to take part is not waited for.
        deadline_seconds: Seconds from the opening of a round after which updates are left out.
        quorum: Share of the cohort, unfit devices left out, whose updates make a round count.
        rejoin_seconds: Seconds to wait after a restart of the coordinator for the devices that were there; how long a
            round waits for a device whose agent was ended; also, how long to go on when nobody who is there is fit.
        keep_checkpoints: Number of latest checkpoints that stay on disk, beside that of the best measured round; 0
            keeps all.
        buffer_size: Updates that make a version, in buffered mode.
        staleness_exponent: Exponent of the staleness weight: in buffered mode an update that started ``s`` versions ago
            weighs ``(1 + s)^-exponent``.
        max_staleness: Number of versions, in buffered mode, after which a task is given up.
        max_sample_ratio: Times the fleet's median of samples that a device weighs at most, whatever it says it has.
    """

    count: Count = 10
    devices_per_round: int = msgspec.field(default=0)
    min_devices: Count = 1
    deadline_seconds: Positive = 300.0
    quorum: Share = 0.5
    rejoin_seconds: NotNegative = 20.0
    keep_checkpoints: int = 5
    mode: Literal["synchronous", "buffered"] = "synchronous"
    buffer_size: Count = 10
    staleness_exponent: NotNegative = 0.5
    max_staleness: Annotated[int, msgspec.Meta(ge=0)] = 20
    prefer_deepest: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    min_holders: NotNegative = 0.0
    max_sample_ratio: Annotated[float, msgspec.Meta(ge=1)] = 20.0

    @property
    def selection(self) -> dict[str, object]:
        """Of these settings, those that decide whose updates make a model; times and counts may change within a run."""
        keys = ["devices_per_round", "prefer_deepest", "min_holders", "mode", "max_sample_ratio"]
        if self.mode == "buffered":
            keys += ["buffer_size", "staleness_exponent", "max_staleness"]
        return {key: getattr(self, key) for key in keys}

    def preference(self, depths: Mapping[str, int], size: int) -> dict[str, float] | None:
        """Who is likely to be chosen for a cohort, from the depths of those who may be."""
        return preference(depths, size, prefer_deepest=self.prefer_deepest, min_holders=self.min_holders)

    def __post_init__(self) -> None:
        if self.devices_per_round < 0:
            raise ValueError(f"devices_per_round must be 0 (all) or more, not {self.devices_per_round}")
        if self.keep_checkpoints < 0:
            raise ValueError(f"keep_checkpoints must be 0 (all) or more, not {self.keep_checkpoints}")
        if 0 < self.devices_per_round < self.min_devices:
            raise ValueError(
                f"min_devices ({self.min_devices}) is more than devices_per_round ({self.devices_per_round})"
            )

    def quorum_of(self, places: int) -> int:
        """How many updates make a round of so many places count: the share, rounded up, at least 1."""
        # Less a trifle: 0.55 * 100 is a little more than 55 in floating point, and still means 55.
        return max(1, math.ceil(self.quorum * places - 1e-9))


def check_periods(scheme: SchemeSettings, rounds: RoundSettings) -> None:
    """Checks that periods of units are only used with rounds that all devices have in common.

    Raises:
        ValueError: The scheme has periods and the rounds are buffered.
    """
    if scheme.exchange_every and rounds.mode == "buffered":
        raise ValueError(
            "[scheme] exchange_every needs rounds that all devices have in common: "
            'set [rounds] mode = "synchronous", or leave it out'
        )


def check_error_feedback(update: UpdateSettings, rounds: RoundSettings) -> None:
    """Checks that error feedback is only used where the update before is in the model, or lost, once a task is given.

    Raises:
        ValueError: Updates have error feedback and the rounds are buffered.
    """
    if update.error_feedback and rounds.mode == "buffered":
        raise ValueError(
            "[update] error_feedback needs rounds that all devices have in common: "
            'set [rounds] mode = "synchronous", or leave it out'
        )
