from __future__ import annotations

import pytest

from fedlp_edge.core.targets import BUILT_IN_TASKS, check_task


@pytest.mark.parametrize("name", [*BUILT_IN_TASKS, "forecast:hourly", "my.package.tasks:make"])
def test_known_tasks_and_names_of_own_ones_pass(name):
    check_task(name)


@pytest.mark.parametrize("name", ["", "classify", "forecast", "tasks.py:make:x", "1a:b", "a:"])
def test_other_names_are_refused_with_what_is_known(name):
    with pytest.raises(ValueError, match="use classification, multi-label, regression, anomaly, or module:callable"):
        check_task(name)
