from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from coordinator.config import FleetConfig
from fedlp_edge.config.toml import parse_toml
from fedlp_edge.errors import ConfigError
from fedlp_edge.simulation.experiment import Experiment


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
        Change({}, {"min_holders": 1.0}),
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


def judged(evaluate: str, **evaluation: Any) -> FleetConfig:
    tables = {"fleet": "shop", "data": {"evaluate": evaluate}, "evaluation": evaluation}
    return msgspec.convert(tables, FleetConfig)


def test_devices_judge_the_model_unless_data_to_judge_it_on_are_named() -> None:
    assert msgspec.convert({"fleet": "shop"}, FleetConfig).identity == judged("").identity


def test_run_cannot_go_on_when_devices_keep_other_samples_out_of_training() -> None:
    assert judged("").identity == judged("", holdout=0.1).identity
    assert len({judged("digits").identity, judged("").identity, judged("", holdout=0.2).identity}) == 3


def test_run_goes_on_when_it_is_judged_by_something_else() -> None:
    assert judged("digits", metric="macro_f1", patience=3, min_delta=0.01).identity == judged("digits").identity


def test_refuses_a_source_without_values_with_its_line() -> None:
    text = 'fleet = "shop"\n[data]\nevaluate = ""\n[evaluation]\nmetric = "loss"\nsource = "central"\n'
    with pytest.raises(ConfigError) as refused:
        parse_toml(text, FleetConfig, "fleet.toml")
    assert str(refused.value) == (
        'fleet.toml:6: [evaluation] source is "central", and there are no central test data: set [data] evaluate'
    )


@pytest.mark.parametrize("kind", [FleetConfig, Experiment])
def test_fleets_and_simulations_are_judged_by_what_is_exported(kind: type[FleetConfig] | type[Experiment]) -> None:
    def answer(model: dict[str, str], **export: str) -> str:
        tables = {"model": model, "export": export} | ({"fleet": "shop"} if kind is FleetConfig else {})
        made = msgspec.convert(tables, kind)
        assert made.judging.answer == made.answer
        return made.answer

    assert answer({"exits": "all"}) == "mean"
    assert answer({"exits": "all"}, answer="exit") == "exit"
    assert answer({"exits": "all", "head_mode": "personal"}) == "exit"
    assert answer({}) == "exit"
