"""This module defines recipes: names for the settings of published algorithms, and of our own best one.

A recipe sets the keys that the file leaves out: explicit keys win. docs/recipes.md describes each with its paper.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from fedlp_edge.errors import ConfigError

RecipeName = Literal[
    "fedavg",
    "fedavg-full",
    "fedlp-homo",
    "fedlp-hetero",
    "heterofl",
    "depthfl",
    "inclusivefl",
    "fedlp-plus",
    "fedlp-exits",
]

Tables = dict[str, Any]
"""Tables of a configuration file, as parsed from TOML."""

RECIPES: Mapping[RecipeName, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # McMahan et al., arXiv 1602.05629: every device trains and sends the whole model.
        "fedavg": {"scheme": {"depth": "full", "lpr": 1.0}},
        # FedAvg with only those devices that can train the whole model.
        "fedavg-full": {"scheme": {"depth": "only-full", "lpr": 1.0}},
        # FedLP, arXiv 2303.06360, section III: each layer is preserved with a probability.
        "fedlp-homo": {"scheme": {"depth": "full", "lpr": 0.5}},
        # FedLP, section IV: prefixes of the model, with personal heads.
        "fedlp-hetero": {"model": {"head_mode": "personal"}, "scheme": {"depth": "auto", "lpr": 1.0}},
        # Diao et al., arXiv 2010.01264: fewer channels.
        "heterofl": {
            "model": {"scaling": "width", "head_mode": "shared"},
            "training": {"objective": {"mask_absent": True}},
            "scheme": {"depth": "auto", "lpr": 1.0},
        },
        # Liu et al., arXiv 2202.08036, without its momentum distillation.
        "inclusivefl": {
            "model": {"head_mode": "shared", "exits": "own", "exit_heads": "pooled"},
            "scheme": {"depth": "auto", "lpr": 1.0},
        },
        # Kim et al., ICLR 2023: all exits up to the device's depth are trained, and learn from each other.
        "depthfl": {
            "model": {"head_mode": "shared", "exits": "all", "exit_heads": "pooled"},
            "training": {"objective": {"distillation": 1.0}},
            "scheme": {"depth": "auto", "lpr": 1.0},
        },
        # Ours; benchmarks/heterogeneous.py compares it with the others.
        "fedlp-plus": {
            "model": {"head_mode": "personal"},
            "training": {"objective": {"logit_adjustment": 1.0}},
            "scheme": {"depth": "auto", "lpr": 1.0},
            "update": {"encoding": "int8"},
            "server": {"optimizer": "momentum", "momentum": 0.8, "lr": 0.3, "ema": 0.9},
            "rounds": {"devices_per_round": 4, "prefer_deepest": 4.0},
        },
        # Ours: every depth has a shared head that is small on the link and in memory, and all devices teach the first.
        "fedlp-exits": {
            "model": {"head_mode": "shared", "exits": "all", "exit_heads": "max-pooled"},
            "training": {
                "objective": {"logit_adjustment": 1.0, "distillation": 0.3, "distillation_teacher": "ensemble"}
            },
            "scheme": {"depth": "auto", "lpr": 1.0},
            "update": {"encoding": "int8", "broadcast": "int8"},
            "server": {"optimizer": "momentum", "momentum": 0.8, "lr": 0.3, "ema": 0.9},
            "rounds": {"devices_per_round": 4},
        },
    }
)


def with_recipe(document: Tables) -> Tables:
    """Adds the settings of the ``recipe`` that a configuration names.

    Args:
        document: Tables by name, with an optional key ``recipe``; not modified.

    Returns:
        Tables with the recipe's settings; ``document`` itself if it names no recipe.

    Raises:
        ConfigError: The recipe is unknown.
    """
    name = document.get("recipe")
    if name is None:
        return document
    if name not in RECIPES:
        near = difflib.get_close_matches(str(name), get_args(RecipeName), n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(RECIPES)}"
        raise ConfigError(f"unknown recipe {name!r}; {hint}")
    return _merged(RECIPES[name], document)


def _merged(defaults: Mapping[str, Any], explicit: Tables) -> Tables:
    merged: Tables = {
        key: _merged(value, {}) if isinstance(value, Mapping) else value for key, value in defaults.items()
    }
    for key, value in explicit.items():
        below = defaults.get(key)
        both = isinstance(value, dict) and isinstance(below, Mapping)
        merged[key] = _merged(below, value) if both and below is not None else value
    return merged
