from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.rounds.round_check import RoundCheck
from coordinator.rounds.round_updates import RoundUpdates
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.settings import SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.messages import Offer
from tests.coordinator.fleets import NAMES, run_context, tiny_blueprint
from tests.coordinator.rounds.test_round_updates import PLACES, deliver, updates

HONEST = {"L1": 1.0, "L2": 2.0, "H2": 3.0}


def model() -> GlobalModel:
    weights = {name: np.ones(2, np.float32) for name in NAMES.values()}
    return GlobalModel(tiny_blueprint(), SchemeSettings(), ServerSettings(), weights, update=UpdateSettings(), seed=1)


def values(model: GlobalModel) -> dict[str, float]:
    return {unit: float(model.weights[name][0]) for unit, name in NAMES.items()}


@pytest.fixture
def excluded() -> list[tuple[str, str]]:
    return []


def check(of: GlobalModel, excluded: list[tuple[str, str]], *, norm_ratio: float = 100.0) -> RoundCheck:
    def withdrawn(offer: Offer, reason: str) -> None:
        excluded.append((offer.device, reason))

    return RoundCheck(of, norm_ratio, withdrawn)


def test_makes_the_model_of_all_updates_that_are_of_one_size(tmp_path: Path, excluded: list[tuple[str, str]]) -> None:
    round, made = updates(tmp_path), model()
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 7.0}, 30)
    check(made, excluded).apply(round)
    assert values(made) == {"L1": 5.0, "L2": 3.0, "H1": 8.0, "H2": 4.0}
    assert excluded == []


def test_leaves_out_an_update_that_is_far_larger(tmp_path: Path, excluded: list[tuple[str, str]]) -> None:
    round, made = updates(tmp_path), model()
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 1e5}, 30)
    check(made, excluded).apply(round)
    assert values(made) == {"L1": 2.0, "L2": 3.0, "H1": 1.0, "H2": 4.0}
    assert [device for device, _ in excluded] == ["b"]
    assert "[limits] norm_ratio is 100" in excluded[0][1]


def test_leaves_out_whoever_stands_out_once_the_loss_has_exploded(
    tmp_path: Path, excluded: list[tuple[str, str]]
) -> None:
    round, made = updates(tmp_path), model()
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 50.0, "H1": 50.0}, 30)
    judge = check(made, excluded)
    judge.apply(round)
    assert excluded == []
    assert judge.withdraw_outlier(round, {1: 0.7, 2: 9000.0}, 10)
    assert values(made) == {"L1": 2.0, "L2": 3.0, "H1": 1.0, "H2": 4.0}
    assert excluded == [("b", "with it the loss of depth 2 is 9e+03")]
    assert not judge.withdraw_outlier(round, {1: 0.7, 2: 0.8}, 10)


def test_blames_nobody_for_a_loss_that_all_have_made(
    tmp_path: Path, excluded: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    round, made = updates(tmp_path), model()
    deliver(round, tmp_path, "a", {"L1": 50.0, "L2": 50.0, "H2": 50.0}, 10)
    deliver(round, tmp_path, "b", {"L1": 50.0, "H1": 50.0}, 30)
    judge = check(made, excluded)
    judge.apply(round)
    before = values(made)
    assert not judge.withdraw_outlier(round, {2: float("inf")}, 10)
    assert values(made) == before
    assert excluded == []
    assert "no device's update stands out" in caplog.text


def test_leaves_out_what_makes_no_model_at_all(tmp_path: Path, excluded: list[tuple[str, str]]) -> None:
    round, made = updates(tmp_path), model()
    made.weights[NAMES["H1"]] = np.full(2, 3.4028e38, np.float32)
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 1e6}, 30)
    made.step = _overflowing(made, round)  # type: ignore[method-assign]
    check(made, excluded, norm_ratio=0).apply(round)
    assert [device for device, _ in excluded] == ["b"]
    assert "is not finite" in excluded[0][1]
    assert values(made)["L1"] == 2.0


def _overflowing(made: GlobalModel, round: object):  # type: ignore[no-untyped-def]
    """A server's step that is too long for what ``b`` sent."""
    plain = made.step

    def step(number: int, mean) -> None:  # type: ignore[no-untyped-def]
        plain(number, mean)
        if mean.weight_of(NAMES["H1"]):
            made.weights[NAMES["H1"]] = np.full(2, np.inf, np.float32)

    return step


def another_round(directory: Path, number: int) -> RoundUpdates:
    directory = directory / f"round-{number}"
    directory.mkdir()
    run = RunDirectory.open(directory)
    journal = Journal.open(run.journal)
    journal.open_round(number, 80, PLACES)
    return RoundUpdates(run_context(run, journal), Cohort(number, PLACES), 80)


def test_goes_back_once_the_devices_find_that_a_step_has_spoilt_the_model(
    tmp_path: Path, excluded: list[tuple[str, str]]
) -> None:
    """What the devices of a round find is about the model of the round before."""
    rounds = [another_round(tmp_path, number) for number in (1, 2, 3)]
    for number, round in enumerate(rounds, start=1):
        deliver(round, tmp_path, "a", HONEST, 10, round=number, counts_in=number)
        deliver(round, tmp_path, "b", {"L1": 50.0, "H1": 50.0}, 30, round=number, counts_in=number)
    made = model()
    judge, before = check(made, excluded), values(made)

    judge.apply(rounds[0], {1: 0.7, 2: 0.7}, 10)
    assert values(made) != before
    judge.apply(rounds[1], {1: 0.7, 2: 9000.0}, 10)
    assert values(made) == before
    assert [device for device, _ in excluded] == ["a", "b"]
    assert {reason for _, reason in excluded} == {
        "it started from the model of round 1, which was taken back",
    }
    assert rounds[1].accepted == {}

    judge.apply(rounds[2], {1: 0.7, 2: 0.7}, 10)
    assert values(made) == {"L1": 2.0, "L2": 3.0, "H1": 1.0, "H2": 4.0}
    assert excluded[-1] == (
        "b",
        "its update of round 1 was left out: with it the devices' median loss of depth 2 is 9e+03",
    )


def test_does_not_go_back_where_no_device_stands_out(
    tmp_path: Path, excluded: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    rounds = [another_round(tmp_path, number) for number in (1, 2)]
    for number, round in enumerate(rounds, start=1):
        deliver(round, tmp_path, "a", HONEST, 10, round=number, counts_in=number)
    made = model()
    judge = check(made, excluded)
    judge.apply(rounds[0], {2: 0.7}, 10)
    first = values(made)
    judge.apply(rounds[1], {2: 9000.0}, 10)
    assert values(made) != first
    assert excluded == []
    assert "no device's update stands out" in caplog.text


def test_knows_nothing_of_the_first_loss_of_a_task_without_classes(
    tmp_path: Path, excluded: list[tuple[str, str]]
) -> None:
    round, made = updates(tmp_path), model()
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 50.0, "H1": 50.0}, 30)
    judge = check(made, excluded)
    judge.apply(round)
    assert not judge.withdraw_outlier(round, {1: -3.0, 2: 9000.0}, 0)
    assert excluded == []
    assert not judge.withdraw_outlier(round, {1: 50.0, 2: 80_000.0}, 0)
    assert judge.withdraw_outlier(round, {1: 50.0, 2: 900_000.0}, 0)
    assert [device for device, _ in excluded] == ["b"]


def test_a_loss_that_is_no_number_has_exploded_whatever_the_task(
    tmp_path: Path, excluded: list[tuple[str, str]]
) -> None:
    round = updates(tmp_path)
    deliver(round, tmp_path, "a", HONEST, 10)
    deliver(round, tmp_path, "b", {"L1": 50.0, "H1": 50.0}, 30)
    judge = check(model(), excluded)
    judge.apply(round)
    assert judge.withdraw_outlier(round, {2: float("inf")}, 0)
    assert [device for device, _ in excluded] == ["b"]
