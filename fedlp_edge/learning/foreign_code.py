"""This module runs code that is not part of FedLP Edge, such as users' functions and models, and contains its errors.

Whatever such code raises becomes one error of ours whose message names the source. Only Ctrl-C is passed on.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedlp_edge.errors import DataError, FedLPError
from fedlp_edge.system.directories import working_directory

_MAX_REASON = 300  # characters of a foreign error that a message quotes


@contextlib.contextmanager
def run_foreign_code(
    source: str, error: type[FedLPError] = DataError, passing: Callable[[BaseException], bool] | None = None
) -> Iterator[None]:
    """Runs the block of foreign code and turns what it raises into a ``FedLPError``.

    Its standard output is redirected to standard error, because standard output may carry a result of FedLP Edge.

    Args:
        source: Name of the foreign code, as the user gave it, for messages.
        error: Error type that is raised in place of anything but a ``FedLPError`` and Ctrl-C.
        passing: Predicate for exceptions that are passed on unchanged because the caller handles them, such as a lack
            of memory; None passes on none.

    Raises:
        FedLPError: The code raised an exception, called ``sys.exit``, or ran out of memory.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (FedLPError, KeyboardInterrupt):
        raise
    except BaseException as caught:
        if passing is not None and passing(caught):
            raise
        raise error(f"{source} failed: {_reason(caught)}{_place(caught)}") from caught


def load_object(name: str, error: type[FedLPError] = DataError) -> Any:
    """Imports the object that ``module:attribute`` names; the module may lie in the current directory.

    Args:
        name: Text of the form ``module:attribute``; the attribute may be dotted.
        error: Error type that is raised on any failure.

    Raises:
        FedLPError: There is no such module or attribute, or importing the module fails.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        raise error(f"{name}: name the module, not its file: {module_name.removesuffix('.py')}:{attribute}")
    here = working_directory()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # the last entry shadows no installed module
    importlib.invalidate_caches()
    with run_foreign_code(name, error):
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as caught:
            if caught.name is None or not (module_name + ".").startswith(caught.name + "."):
                raise
            raise error(
                f"{name}: cannot import {module_name}: No module named {caught.name!r} in {here}, "
                "nor installed, nor on PYTHONPATH"
            ) from None
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise error(f"{name}: {module_name} has no attribute {part!r}")
            found = getattr(found, part)
    return found


def error_line(error: object) -> str:
    """Returns an error's text on one line of at most about 300 characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the __str__ of a foreign exception may fail, too
        text = ""
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + " ..."


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended with sys.exit({error.code!r})"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    return f"{type(error).__name__}: {error_line(error)}"


def _place(error: BaseException) -> str:
    """Returns the innermost line of the user's own code, outside installed packages, at which the error was raised."""
    ours = str(Path(__file__).resolve().parents[1])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((ours, "<", sys.base_prefix)) and "site-packages" not in frame.filename:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""
