"""The files of the tiny model, written as if its weights were too many for one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from torch import nn

from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.learning.export.external import detached_weights
from fedlp_edge.learning.export.family.model_family import FamilyOptions, FamilyResult, ModelFamily
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.precision import Precision
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from tests.learning.export.family.tiny_family import LABELS, a_model, pictures

LIMIT = 180
"""Bytes that depth 1 fits in, and depth 2 does not."""

LEAST_BYTES = 18


def two_depths() -> LayeredModel:
    """The tiny model with convolutions that differ, since an exporter stores equal weights once.

    A graph of depth 1 has 164 bytes of weights that may stand elsewhere, one of depth 2 has 200.
    """
    model = a_model(2)
    nn.init.constant_(model.get_submodule("L2.0").weight, 0.21)
    return model


def write_family(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int = LIMIT,
    precisions: tuple[Precision, ...] = ("fp32",),
    early_exit: float | None = None,
    told: Mapping[str, TensorRanges] = MappingProxyType({}),
) -> FamilyResult:
    """Writes the files of a model where one holds ``limit`` bytes of weights; biases stay in the graph."""
    monkeypatch.setattr(detached_weights, "MAX_BYTES", limit)
    monkeypatch.setattr(detached_weights, "LEAST_BYTES", LEAST_BYTES)
    tasks: dict[int, LearningTask] = {depth: Classification(2) for depth in (1, 2)}
    options = FamilyOptions(
        name="tiny", classes=("dark", "bright"), precisions=precisions, early_exit=early_exit, told=told
    )
    data = pictures(LABELS)
    return ModelFamily(exits_of(two_depths(), (1, 2)), tasks, data, data, directory, options).write()
