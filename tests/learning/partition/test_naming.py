"""Layers are named after the modules that they consist of."""

from __future__ import annotations

from fedlp_edge.learning.partition.naming import layer_names


def test_names_layers_by_what_they_alone_hold() -> None:
    assert layer_names([["conv1", "bn1", "layer1.0.conv"], ["layer1.1.conv", "layer1.1.bn"], ["fc"]]) == [
        "conv1 .. layer1.0",
        "layer1.1",
        "fc",
    ]
    assert layer_names([["features.0", "features.1.conv"], ["features.1.bn", "features.2"]]) == [
        "features.0 .. features.1.conv",
        "features.1.bn .. features.2",
    ]
    assert layer_names([["f.0", "f.1"], ["g"]]) == ["f", "g"]
