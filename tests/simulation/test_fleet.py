"""Who is in a virtual fleet, and what each device gets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.config.recipes import RecipeName, with_recipe
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings, SchemeSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation.experiment import Experiment, FleetSettings, SimulatedData
from fedlp_edge.simulation.fleet import apportioned, device_id, drawn, make_fleet
from fedlp_edge.simulation.simulated_data import DataAssignment, assign_data, read_simulation_data
from tests.simulation.conftest import experiment

IDS = [device_id(number, 10) for number in range(10)]


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    return build_model(ModelSettings(name="mlp", input=(1, 8, 8)), seed=0).blueprint("mlp")


@pytest.fixture(scope="module")
def assignment() -> DataAssignment:
    return assign_data(experiment(), read_simulation_data("digits", "digits"))


def test_names_devices_so_that_they_sort_like_numbers() -> None:
    assert [device_id(number, 3) for number in range(3)] == ["dev-0", "dev-1", "dev-2"]
    assert device_id(7, 1000) == "dev-007"
    assert sorted(IDS) == IDS


def test_meets_shares_exactly_and_shuffles_who_gets_which() -> None:
    got = apportioned({1: 0.6, 2: 0.1, 3: 0.3}, IDS, 1, "depth")
    assert Counter(got.values()) == {1: 6, 2: 1, 3: 3}
    assert got == apportioned({1: 0.6, 2: 0.1, 3: 0.3}, IDS, 1, "depth")
    assert got != apportioned({1: 0.6, 2: 0.1, 3: 0.3}, IDS, 2, "depth")
    # Where shares cannot be met, the largest remainders get the places that are left.
    assert Counter(apportioned({"a": 1 / 3, "b": 2 / 3}, IDS[:4], 1, "").values()) == {"a": 1, "b": 3}


def test_draws_depths_that_the_mix_allows() -> None:
    assert set(drawn((0.0, 1.0, 0.0), IDS, 1, "depth").values()) == {2}
    many = drawn((0.5, 0.5), [str(number) for number in range(2000)], 1, "depth")
    assert 900 < Counter(many.values())[1] < 1100


@pytest.mark.parametrize(
    ("recipe", "depths"),
    [("fedlp-hetero", {1: 3, 2: 1, 3: 2}), ("fedavg", {3: 6}), ("fedavg-full", {0: 4, 3: 2})],
)
def test_gives_devices_what_the_scheme_makes_of_the_mix(
    recipe: RecipeName, depths: dict[int, int], blueprint: Blueprint, assignment: DataAssignment
) -> None:
    scheme = msgspec.convert(with_recipe({"recipe": recipe})["scheme"], SchemeSettings)
    fleet = make_fleet(experiment(scheme=scheme), blueprint, assignment)
    assert Counter(device.plan.depth for device in fleet.values()) == depths


def test_plans_with_the_profiles_of_the_devices(blueprint: Blueprint, assignment: DataAssignment) -> None:
    settings = FleetSettings(devices=6, profiles={"class-xs": 0.5, "class-l": 0.5})
    fleet = make_fleet(experiment(fleet=settings), blueprint, assignment)
    assert Counter(device.profile for device in fleet.values()) == {"class-xs": 3, "class-l": 3}
    depth = {device.profile: device.plan.depth for device in fleet.values()}
    assert depth["class-xs"] < depth["class-l"]


def test_refuses_a_mix_that_does_not_fit(blueprint: Blueprint, assignment: DataAssignment) -> None:
    with pytest.raises(ConfigError, match="2 shares, but mlp has 3 depths"):
        make_fleet(experiment(fleet=FleetSettings(devices=6, depth_mix=(0.5, 0.5))), blueprint, assignment)
    with pytest.raises(ValueError, match=r"sum to 0\.9"):
        FleetSettings(depth_mix=(0.5, 0.4))


def test_knows_a_run_by_what_decides_what_is_learned() -> None:
    run = Experiment()
    longer = msgspec.structs.replace(run, rounds=msgspec.structs.replace(run.rounds, count=99))
    assert longer.identity == run.identity
    assert msgspec.structs.replace(run, seed=2).identity != run.identity
    assert experiment(fleet=FleetSettings(devices=6, dropout=0.1)).identity != experiment().identity


def test_a_device_with_one_sample_takes_no_part(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("site,a,y\n" + "north,1,0\nnorth,2,1\n" * 10 + "south,3,0\n")
    data = f"csv:{path}#target=y&group=site&holdout=0"
    wanted = msgspec.structs.replace(
        experiment(),
        data=SimulatedData(train=data, evaluate="", partition="group"),
        fleet=FleetSettings(devices=2),
    )
    fleet = make_fleet(
        wanted,
        build_model(ModelSettings(name="mlp", input=(1,)), seed=0).blueprint("mlp"),
        assign_data(wanted, read_simulation_data(data, "")),
    )
    assert [device.member.samples for device in fleet.values()] == [20, 1]
    assert fleet["dev-0"].plan.depth == 3
    assert (fleet["dev-1"].plan.depth, fleet["dev-1"].plan.explanation) == (
        0,
        "training needs 2 samples at least, and it has 1",
    )
