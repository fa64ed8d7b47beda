"""The task that settings name."""

from __future__ import annotations

import pytest

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.multi_label import MultiLabel
from fedlp_edge.learning.tasks.regression import Regression


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("classification", Classification),
        ("multi-label", MultiLabel),
        ("regression", Regression),
        ("anomaly", Anomaly),
    ],
)
def test_names_of_settings_are_tasks(name: str, kind: type) -> None:
    assert isinstance(make_task(ModelSettings(task=name), 3), kind)


def test_code_of_its_own_is_not_run_unasked() -> None:
    with pytest.raises(ModelError, match="--allow-model no_such_module:task"):
        make_task(ModelSettings(task="no_such_module:task"), 3)
