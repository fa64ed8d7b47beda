"""Python in the documentation is Python, and what it takes from these packages is there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests.test_docs import PACKAGES, PAGES, ROOT

BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def taken_names(block: str) -> Iterator[tuple[str, str]]:
    """Yields module and name of what a snippet takes from the packages of this project."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            yield from ((node.module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PACKAGES:
            yield node.value.id, node.attr


def test_names_of_a_snippet_are_found() -> None:
    block = "import fedlp_edge\nfrom fedlp_edge.simulation import simulate\nfedlp_edge.partition(x)\n"

    assert set(taken_names(block)) == {("fedlp_edge.simulation", "simulate"), ("fedlp_edge", "partition")}
    assert len(BLOCKS) >= 10


@pytest.mark.parametrize("block", BLOCKS)
def test_snippets_of_python_take_what_is_there(block: str) -> None:
    assert [name for name in taken_names(block) if not hasattr(importlib.import_module(name[0]), name[1])] == []
