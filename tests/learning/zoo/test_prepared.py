"""A worker's cache of one model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.zoo.prepared import PreparedModels, prepare, state_names, tensor_names
from tests.two_layers import NAME, PERSONAL, SETTINGS, two_layers

CPU = torch.device("cpu")


@pytest.fixture
def models() -> PreparedModels:
    return PreparedModels(CPU, (NAME,))


def test_whole_model_is_built_once(models: PreparedModels) -> None:
    model, blueprint = models.new_model(SETTINGS, seed=1)
    assert blueprint.full_depth == 2
    assert models.full_model(SETTINGS)[0] is model
    assert models.full_model(PERSONAL)[0] is not model


def test_submodel_of_a_depth_takes_the_place_of_the_whole(models: PreparedModels) -> None:
    model, _ = models.new_model(SETTINGS, seed=1)
    first = models.submodel(SETTINGS, 1)
    assert sorted(first.model.state_dict()) == ["H1.weight", "L1.weight"]
    assert first.nbytes == 4 * (2 + 4)
    assert models.submodel(SETTINGS, 1) is first
    assert models.submodel(SETTINGS, 2) is not first
    assert models.full_model(SETTINGS)[0] is not model


def test_depth_that_there_is_not_is_refused(models: PreparedModels) -> None:
    with pytest.raises(ModelError) as caught:
        models.submodel(SETTINGS, 3)
    assert str(caught.value) == f"{NAME} has depths 1 to 2, not 3"


def test_model_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ModelError, match=f"start it with --allow-model {NAME} if you trust it"):
        PreparedModels(CPU, ()).build(SETTINGS, seed=0)


def test_counters_of_a_round_are_forgotten() -> None:
    norm = nn.BatchNorm1d(1)
    prepared = prepare(norm, two_layers().blueprint("m"), CPU)
    assert set(prepared.integer_state) == {"num_batches_tracked"}
    norm(torch.ones(2, 1))
    assert norm.num_batches_tracked == 1
    prepared.forget_rounds()
    assert norm.num_batches_tracked == 0


def test_names_are_those_of_the_units_in_order() -> None:
    blueprint = two_layers().blueprint("m")
    assert tensor_names(blueprint.exit_path(1)) == ["L1.weight", "H1.weight"]
    assert state_names(blueprint.exit_path(1)) == ["L1.weight", "H1.weight"]
