from __future__ import annotations

import importlib
from typing import Any

import pytest

from fedlp_edge.learning.export.operator_table import kept_operator_table


def test_the_table_is_built_once_and_what_an_export_adds_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    registration: Any = importlib.import_module("torch.onnx._internal.exporter._registration")
    read = []
    operators = registration._torchlib_registry.get_torchlib_ops()

    def get_torchlib_ops() -> Any:
        read.append(1)
        return operators

    monkeypatch.setattr(registration._torchlib_registry, "get_torchlib_ops", get_torchlib_ops)
    monkeypatch.setattr("fedlp_edge.learning.export.operator_table._TABLES", {})
    monkeypatch.setattr(registration.onnxscript_apis, "get_torchlib_ops", list)
    build = registration.ONNXRegistry.from_torchlib
    fresh = build(opset_version=18)
    with kept_operator_table():
        first = registration.ONNXRegistry().from_torchlib(opset_version=18)
        name = next(iter(first.functions))
        first.functions[name].clear()
        second = registration.ONNXRegistry.from_torchlib(opset_version=18)
    assert len(read) == 2
    assert second.opset_version == 18
    assert {name: len(functions) for name, functions in second.functions.items()} == {
        name: len(functions) for name, functions in fresh.functions.items()
    }
    assert registration.ONNXRegistry.from_torchlib == build
