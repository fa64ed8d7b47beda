"""The coordinator's limits stand in one place, and each says what it is for."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

from coordinator import limits
from coordinator.limits import LIMITS, CoordinatorLimits

PACKAGE = Path(limits.__file__).parent


def test_each_limit_has_its_reason() -> None:
    text = inspect.getdoc(CoordinatorLimits) or ""
    assert [entry.name for entry in fields(LIMITS) if f"    {entry.name}: " not in text] == []
    assert all(getattr(LIMITS, entry.name) > 0 for entry in fields(LIMITS))


def test_no_other_module_has_numbers_of_its_own() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and not node.targets[0].id.startswith("_")
        and all(isinstance(part, ast.Constant | ast.BinOp | ast.operator) for part in ast.walk(node.value))
        and not isinstance(getattr(node.value, "value", None), str)
    ]
    assert found == []


def test_each_limit_is_read_somewhere() -> None:
    code = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    assert [entry.name for entry in fields(LIMITS) if f"LIMITS.{entry.name}" not in code] == []
