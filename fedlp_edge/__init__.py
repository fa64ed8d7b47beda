"""Federated learning by layers for unequal devices, over MQTT.

The public names below are loaded on first use, so that the parts that must not need torch (the coordinator,
the agent, the command line) can import this package without it.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as checkers know it; typing itself takes longer to load than all else here
if TYPE_CHECKING:
    from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
    from fedlp_edge.core.settings import ModelSettings
    from fedlp_edge.errors import FedLPError, ModelError, PartitionError
    from fedlp_edge.learning.model.layered import LayeredModel, Submodel
    from fedlp_edge.learning.partition.partition import partition
    from fedlp_edge.learning.zoo.build import build_model

__all__ = [
    "Blueprint",
    "DepthCost",
    "FedLPError",
    "LayeredModel",
    "ModelError",
    "ModelSettings",
    "PartitionError",
    "Submodel",
    "TensorSpec",
    "Unit",
    "build_model",
    "partition",
]

_HOME = {
    "Blueprint": "core.blueprint",
    "DepthCost": "core.blueprint",
    "FedLPError": "errors",
    "LayeredModel": "learning.model.layered",
    "ModelError": "errors",
    "ModelSettings": "core.settings",
    "PartitionError": "errors",
    "Submodel": "learning.model.layered",
    "TensorSpec": "core.blueprint",
    "Unit": "core.blueprint",
    "build_model": "learning.zoo.build",
    "partition": "learning.partition.partition",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not needed by whoever only passes through here

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
