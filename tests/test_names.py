"""The house's own rules: one name for one thing, folders that a reader can survey, constructors that can be called."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fedlp_edge", "coordinator", "device_agent")
MAX_MODULES = 15
MAX_PARAMETERS = 8

SHARED_MODULE_NAMES = {
    "main": "every service and the worker has an entry point",
    "command": "each service's command line",
    "config": "each service's configuration file",
    "service": "each service's loop",
    "limits": "each service has its limits in one place",
    "events": "what a state machine is told and answers; what a run reports",
    "settings": "the choices of a run, and those of its rounds",
    "machine": "the state machines of the two sides",
    "uploads": "the two ends of one exchange",
    "base": "the interface that the modules beside it implement",
    "jobs": "what a worker is asked, by a service and by a simulation",
}
"""Modules of one name in several packages, where the package says whose it is."""

SHARED_TYPE_NAMES: dict[str, str] = {}
"""Public types of one name."""

LARGE_CONSTRUCTORS: dict[str, str] = {}
"""Constructors with more parameters than usual."""


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted(path for path in (ROOT / package).rglob("*.py") if not path.name.startswith("__"))


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield path, node


def shown(paths: list[Path]) -> str:
    return ", ".join(str(path.relative_to(ROOT)) for path in paths)


def test_no_two_modules_have_one_name() -> None:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in modules():
        found[path.stem].append(path)
    several = {name: shown(paths) for name, paths in found.items() if len(paths) > 1}
    assert {name: where for name, where in several.items() if name not in SHARED_MODULE_NAMES} == {}
    assert set(SHARED_MODULE_NAMES) <= set(several), "an exception that nothing needs any more"


def test_no_two_public_types_have_one_name() -> None:
    found: dict[str, list[Path]] = defaultdict(list)
    for path, node in classes():
        if not node.name.startswith("_"):
            found[node.name].append(path)
    several = {name: shown(paths) for name, paths in found.items() if len(paths) > 1}
    assert several.keys() == SHARED_TYPE_NAMES.keys(), several


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_holds_more_modules_than_a_reader_surveys(package: str) -> None:
    counts: dict[Path, int] = defaultdict(int)
    for path in modules():
        counts[path.parent.relative_to(ROOT)] += 1
    assert {str(folder): n for folder, n in counts.items() if folder.parts[0] == package and n > MAX_MODULES} == {}


def test_constructors_take_few_parameters() -> None:
    large = {}
    for path, node in classes():
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                count = len(function.args.args) + len(function.args.kwonlyargs) - 1
                if count > MAX_PARAMETERS:
                    large[node.name] = f"{count} parameters in {path.relative_to(ROOT)}"
    assert large.keys() == LARGE_CONSTRUCTORS.keys(), large


def test_errors_are_called_errors() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, node in classes()
        if any(isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception")) for base in node.bases)
        and not node.name.endswith("Error")
    ]
    assert wrong == []


def test_no_attribute_is_asked_for_by_a_string_on_oneself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) == 3
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == "self"
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [*modules()], ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, "no docstring"
    assert text.splitlines()[0].endswith((".", ":", "?")), "the first line is no sentence"
