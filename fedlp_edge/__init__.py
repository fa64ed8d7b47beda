"""Federated learning by layers for fleets of unequal devices, over MQTT, ending in ONNX.

What a program imports from here:

Splitting a model
    ``partition(model, example_input)`` turns a classifier into a ``LayeredModel``: an ordered list of layers with an
    exit head for each depth. ``LayeredModel.layers`` are its modules, ``submodel(depth)`` gives the ``Submodel`` that a
    device trains, ``blueprint()`` describes it as data (``Blueprint``, ``Unit``, ``TensorSpec``, ``DepthCost``).
    ``build_model(ModelSettings(...))`` makes a model by name, as a configuration file does.

Trying a fleet
    ``simulate(experiment, directory)`` runs virtual devices on this machine. ``Experiment`` is what
    ``load_experiment(file)`` reads; ``Summary`` is what comes out.

Using the result
    ``export(model, directory, data)`` writes ONNX files that are proven to compute the same; ``infer(file, *pictures)``
    runs one of them and gives a ``Prediction`` for each picture.

Errors
    ``FedLPError`` is the base of all. ``OperatorError`` and the errors below it are for who runs a fleet to mend:
    ``ConfigError``, ``DataError``, ``ModelError``, ``PartitionError``, ``ExportError``, ``StorageError``.
    ``DeviceError``, ``WorkerError``, ``PeerError`` and ``BrokerError`` say that somebody else failed.

Real fleets are run by the commands ``fedlp``, ``fedlp-coordinator`` and ``fedlp-agent``; see docs/getting-started.md.
The names are loaded on first use, so that parts which must not need torch can import this package without it.
"""

from __future__ import annotations

import os

__version__ = "0.1.0"

TYPE_CHECKING = False  # as checkers know it; typing itself takes longer to load than all else here
if TYPE_CHECKING:
    from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
    from fedlp_edge.core.settings import ModelSettings
    from fedlp_edge.errors import (
        BrokerError,
        ConfigError,
        DataError,
        DeviceError,
        ExportError,
        FedLPError,
        ModelError,
        OperatorError,
        PartitionError,
        PeerError,
        StorageError,
        WorkerError,
    )
    from fedlp_edge.learning.export.inference import Prediction
    from fedlp_edge.learning.export.inputs.inference_inputs import infer
    from fedlp_edge.learning.export.layered_export import export
    from fedlp_edge.learning.model.layered import LayeredModel, Submodel
    from fedlp_edge.learning.partition.partition import partition
    from fedlp_edge.learning.zoo.build import build_model
    from fedlp_edge.reporting.summary import Summary
    from fedlp_edge.simulation.experiment import Experiment, load_experiment
    from fedlp_edge.simulation.run import simulate

__all__ = [
    "Blueprint",
    "BrokerError",
    "ConfigError",
    "DataError",
    "DepthCost",
    "DeviceError",
    "Experiment",
    "ExportError",
    "FedLPError",
    "LayeredModel",
    "ModelError",
    "ModelSettings",
    "OperatorError",
    "PartitionError",
    "PeerError",
    "Prediction",
    "StorageError",
    "Submodel",
    "Summary",
    "TensorSpec",
    "Unit",
    "WorkerError",
    "build_model",
    "errors",
    "export",
    "infer",
    "load_experiment",
    "partition",
    "simulate",
]

_MODULES = {
    "core.blueprint": ("Blueprint", "DepthCost", "TensorSpec", "Unit"),
    "core.settings": ("ModelSettings",),
    "errors": (
        "BrokerError",
        "ConfigError",
        "DataError",
        "DeviceError",
        "ExportError",
        "FedLPError",
        "ModelError",
        "OperatorError",
        "PartitionError",
        "PeerError",
        "StorageError",
        "WorkerError",
    ),
    "learning.export.inference": ("Prediction",),
    "learning.export.inputs.inference_inputs": ("infer",),
    "learning.export.layered_export": ("export",),
    "learning.model.layered": ("LayeredModel", "Submodel"),
    "learning.partition.partition": ("partition",),
    "learning.zoo.build": ("build_model",),
    "reporting.summary": ("Summary",),
    "simulation.experiment": ("Experiment", "load_experiment"),
    "simulation.run": ("simulate",),
}
# From the moment it is loaded, onnxruntime 1.29 and newer reports to Microsoft: the machine, the program, the models by
# name and digest. An owner who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not needed by whoever only passes through here

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
