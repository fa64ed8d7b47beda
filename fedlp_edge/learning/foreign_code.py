"""This module runs code that is not part of FedLP Edge, such as users' functions and models, and contains its errors.

Whatever such code raises becomes one error of ours whose message names the source. Only Ctrl-C is passed on.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fedlp_edge.errors import DataError, FedLPError
from fedlp_edge.system.directories import working_directory

_MAX_REASON = 300  # characters of a foreign error that a message quotes

_being_imported: ContextVar[str] = ContextVar("being_imported", default="")

_NO_ANSWER = "EOF when reading a line"  # Python's words where input() finds standard input at its end
_NO_PACKAGE = "attempted relative import with no known parent package"  # and for "from .blocks import Block"


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
        with contextlib.redirect_stdout(sys.stderr), _settings_kept():
            yield
    except (FedLPError, KeyboardInterrupt):
        raise
    except BaseException as caught:
        if passing is not None and passing(caught):
            raise
        raise error(f"{source} failed: {_reason(caught)}{place_of(caught)}") from caught


def load_object(name: str, error: type[FedLPError] = DataError) -> Any:
    """Imports the object that ``module:attribute`` names; the module may lie in the current directory.

    Args:
        name: Text of the form ``module:attribute``; the attribute may be dotted.
        error: Error type that is raised on any failure.

    Raises:
        FedLPError: There is no such module or attribute, or importing the module fails.
    """
    module_name, _, attribute = name.partition(":")
    if remedy := misnamed(name):
        raise error(f"{name}: {remedy}")
    here = working_directory()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # the last entry shadows no installed module
    importlib.invalidate_caches()
    with run_foreign_code(name, error):
        try:
            found: Any = _imported(module_name)
        except ModuleNotFoundError as caught:
            if caught.name is None or not (module_name + ".").startswith(caught.name + "."):
                raise
            raise error(
                f"{name}: cannot import {module_name}: No module named {caught.name!r} in {here}, "
                "nor installed, nor on PYTHONPATH"
            ) from None
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise error(f"{name}: {_missing(module_name, part, here)}")
            found = getattr(found, part)
    return found


def module_being_imported() -> str:
    """Returns the name of the user's module whose import runs the caller; empty if none does."""
    return _being_imported.get()


def _imported(module_name: str) -> Any:
    before = _being_imported.set(module_name)
    try:
        return importlib.import_module(module_name)
    finally:
        _being_imported.reset(before)


def _missing(module_name: str, attribute: str, here: str) -> str:
    if module_name == "__main__":
        return (
            f"what a notebook or a script defines, such as {attribute}, no other process can import: write it into a "
            f"file NAME.py, and name it as NAME:{attribute}"
        )
    return f"{module_name} has no attribute {attribute!r}{_another(module_name, here)}"


def misnamed(name: str) -> str:
    """Returns what to do about a name ``module:attribute`` whose module nobody can import; empty if it may be one."""
    module_name, _, attribute = name.replace("\\", "/").rpartition(":")
    if not attribute.replace(".", "").isidentifier() or not module_name:
        return ""
    if module_name.endswith(".ipynb"):
        return "a notebook cannot be imported: write the function into a file NAME.py, and name it as NAME:function"
    if module_name.endswith(".py"):
        module_name = module_name.removesuffix(".py")
        if module_name.isidentifier():
            return f"name the module, not its file: {module_name}:{attribute}"
    file_name = module_name.rpartition("/")[2]
    if "/" in module_name:
        folder = module_name.rpartition("/")[0]
        return f"name the module, not its path: {file_name}:{attribute}, started in {folder} or with it on PYTHONPATH"
    if not all(part.isidentifier() for part in module_name.split(".")):
        return "the name of a module has letters, digits and _ alone: rename its file"
    return ""


def error_line(error: object) -> str:
    """Returns an error's text on one line of at most about 300 characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the __str__ of a foreign exception may fail, too
        text = ""
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + " ..."


@contextlib.contextmanager
def _settings_kept() -> Iterator[None]:
    """Restores what foreign code switches for the whole process, and what nobody else expects to change.

    Float64 as the default type, a GPU as the default device, gradients that are off and warnings that are errors are
    usual at the top of people's scripts, and would go for all that the process does later.
    """
    filters, errors = list(warnings.filters), np.geterr()
    torch = sys.modules.get("torch")  # what imports no torch can switch nothing there
    before = (torch.get_default_dtype(), _default_device(torch), torch.is_grad_enabled()) if torch else None
    try:
        yield
    finally:
        if warnings.filters != filters:
            warnings.filters[:] = filters  # type: ignore[index]
        np.seterr(**errors)
        torch = sys.modules.get("torch")
        if torch:
            kind, device, gradients = before or (torch.float32, torch.device("cpu"), True)
            if torch.get_default_dtype() != kind:
                torch.set_default_dtype(kind)
            if _default_device(torch) != device:
                torch.set_default_device(None if device.type == "cpu" else device)
            if torch.is_grad_enabled() != gradients:
                torch.set_grad_enabled(gradients)


def _default_device(torch: ModuleType) -> Any:
    """Returns the device on which tensors are made; torch 2.6 cannot tell once it was set and taken back."""
    try:
        return torch.get_default_device()
    except AttributeError:
        return torch.device("cpu")


def _another(module_name: str, here: str) -> str:
    """Returns where a module was found, if the user's own of that name in the current directory was not taken."""
    own = Path(here, *module_name.split(".")).with_suffix(".py")
    taken = getattr(sys.modules.get(module_name), "__file__", None)
    if taken is None or not own.is_file() or own.samefile(taken):
        return ""
    return f": {taken} goes before {own.name} here; rename your file"


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended with sys.exit({error.code!r})"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, EOFError) and str(error) == _NO_ANSWER:
        return "it asks a question (input), and nobody is there to answer"
    if isinstance(error, ImportError) and str(error) == _NO_PACKAGE:
        return f"{error}: name the package, too, as in package.module:callable, started in the folder above it"
    return f"{type(error).__name__}: {error_line(error)}"


def place_of(error: BaseException) -> str:
    """Returns the innermost line of the user's own code, outside installed packages, at which the error was raised.

    It is in brackets with a blank before them; empty if there is none.
    """
    ours = str(Path(__file__).resolve().parents[1])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((ours, "<", sys.base_prefix)) and "site-packages" not in frame.filename:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""
