from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from coordinator.config import FleetConfig


def config(**rounds: Any) -> FleetConfig:
    return msgspec.convert({"fleet": "shop", "rounds": rounds}, FleetConfig)


@dataclass(frozen=True)
class Change:
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.mark.parametrize(
    "change",
    [
        Change({}, {"devices_per_round": 5}),
        Change({}, {"prefer_deepest": 2.0}),
        Change({}, {"least_holders": 1.0}),
        Change({}, {"mode": "buffered"}),
        Change({"mode": "buffered"}, {"mode": "buffered", "buffer_size": 3}),
        Change({"mode": "buffered"}, {"mode": "buffered", "max_staleness": 3}),
    ],
)
def test_run_cannot_go_on_when_others_are_chosen(change: Change) -> None:
    assert config(**change.before).identity != config(**change.after).identity


@pytest.mark.parametrize("after", [{"count": 99}, {"deadline_seconds": 5.0}, {"quorum": 1.0}, {"buffer_size": 3}])
def test_run_goes_on_with_other_times_and_counts(after: dict[str, Any]) -> None:
    assert config().identity == config(**after).identity
