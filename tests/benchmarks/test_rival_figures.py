"""The repeated cases of rivals' authors: their network and settings, and what is shown of them."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.rival_figures import CASES, compute, experiment, table
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation.experiment import SimulatedData


def test_the_network_has_as_many_parameters_as_that_of_heterofls_authors() -> None:
    model = build_model(experiment(CASES[0]).model, seed=0, allow_models=None)
    # Levels e and d of convolutions with 64 to 512 channels, biases and norms.
    assert [cost.parameters for cost in model.blueprint().costs] == [6_594, 25_274]


def test_settings_are_those_of_heterofls_authors_but_for_the_rounds() -> None:
    wanted = experiment(CASES[0])
    training = wanted.training
    assert (training.epochs, training.batch_size, training.lr, training.momentum) == (5, 10, 0.01, 0.9)
    assert (training.weight_decay, training.clip_norm, training.objective.mask_absent) == (5e-4, 1.0, True)
    assert (training.schedule, training.step_factor) == ("step", 0.1)
    assert (wanted.rounds.devices_per_round, wanted.fleet.devices, wanted.fleet.depth_mix) == (10, 100, (0.5, 0.5))


def test_a_case_is_shown_with_its_best_and_its_last_round() -> None:
    wanted = experiment(CASES[0], rounds=2)
    digits = SimulatedData("digits", "digits", "iid", limit=20)
    wanted = msgspec.structs.replace(
        wanted,
        data=digits,
        model=msgspec.structs.replace(wanted.model, input=(1, 8, 8)),
        training=msgspec.structs.replace(wanted.training, epochs=1),
    )
    found = compute(wanted)
    assert list(found["accuracy"]) == ["2"]
    assert found["best"] == found["last"] == pytest.approx(0.1, abs=0.25)
    assert table({CASES[0].name: {"best": 0.99126, "last": 0.991}}).splitlines()[2:] == [
        f"| {CASES[0].name} | 99.08 | 99.13 | 99.10 |"
    ]
