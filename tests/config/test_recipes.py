import msgspec
import pytest

from fedlp_edge.config.recipes import RECIPES, with_recipe
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, ServerSettings, TrainingSettings, UpdateSettings
from fedlp_edge.errors import ConfigError

KINDS = {
    "model": ModelSettings,
    "training": TrainingSettings,
    "scheme": SchemeSettings,
    "update": UpdateSettings,
    "server": ServerSettings,
    "rounds": RoundSettings,
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_valid_settings(name: str):
    for table, values in with_recipe({"recipe": name}).items():
        if table != "recipe":
            msgspec.convert(values, KINDS[table])


def test_with_recipe_lets_explicit_keys_win():
    document = {"recipe": "depthfl", "training": {"lr": 0.1, "objective": {"proximal": 0.5}}, "model": {"exits": "own"}}
    assert with_recipe(document) == {
        "recipe": "depthfl",
        "model": {"head_mode": "shared", "exits": "own", "exit_heads": "pooled"},
        "training": {"lr": 0.1, "objective": {"distillation": 1.0, "proximal": 0.5}},
        "scheme": {"depth": "auto", "lpr": 1.0},
    }
    assert document["training"] == {"lr": 0.1, "objective": {"proximal": 0.5}}


def test_with_recipe_does_not_change_the_recipe():
    with_recipe({"recipe": "depthfl"})["training"]["objective"]["distillation"] = 9.0
    assert RECIPES["depthfl"]["training"]["objective"] == {"distillation": 1.0}


def test_with_recipe_leaves_other_documents_alone():
    document = {"model": {"name": "mlp"}}
    assert with_recipe(document) is document


def test_with_recipe_refuses_a_name_that_it_does_not_know():
    with pytest.raises(ConfigError, match="unknown recipe 'depth-fl'; did you mean \"depthfl\""):
        with_recipe({"recipe": "depth-fl"})
    with pytest.raises(ConfigError, match="there are fedavg, "):
        with_recipe({"recipe": 7})
