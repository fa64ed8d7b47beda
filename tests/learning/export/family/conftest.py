"""Files of a tiny model, which several modules look at and which take seconds to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.learning.export.family.model_family import FamilyOptions, FamilyResult, ModelFamily
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from tests.learning.export.family.tiny_family import LABELS, a_model, pictures


@pytest.fixture(scope="package")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FamilyResult]:
    directory, data = tmp_path_factory.mktemp("family"), pictures(LABELS)
    model = exits_of(a_model(2), (1, 2))
    options = FamilyOptions(
        name="tiny", classes=("dark", "bright"), metadata={"run": "r"}, precisions=("fp32", "fp16", "int8"),
        early_exit=0.85,
    )  # fmt: skip
    tasks: dict[int, LearningTask] = {depth: Classification(2) for depth in (1, 2)}
    return directory, ModelFamily(model, tasks, data, data, directory, options).write()
