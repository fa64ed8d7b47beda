"""The one boundary at which code and objects that are not ours stop: users' functions and models, decoders, archives.

Whatever goes wrong behind it, and however, becomes one line that names its source. Only Ctrl-C passes.
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

_MAX_REASON = 300


@contextlib.contextmanager
def foreign(
    source: str, error: type[FedLPError] = DataError, passing: Callable[[BaseException], bool] | None = None
) -> Iterator[None]:
    """Runs what is not ours; what it prints goes to standard error, as standard output may carry our answer.

    Args:
        source: what the user calls it, for the message.
        error: raised in place of anything but a ``FedLPError`` and Ctrl-C.
        passing: tells what passes, too, because the caller can do something about it, such as a lack of memory.

    Raises:
        FedLPError: the code failed, asked to end the process, or ran out of memory.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (FedLPError, KeyboardInterrupt):
        raise
    except BaseException as caught:
        if passing is not None and passing(caught):
            raise
        raise error(f"{source} failed: {_words(caught)}{_place(caught)}") from caught


def load_object(name: str, error: type[FedLPError] = DataError) -> Any:
    """Imports what ``module:attribute`` names; the module may lie in the current directory.

    Args:
        name: the attribute may be dotted.
        error: raised if anything goes wrong.

    Raises:
        FedLPError: there is no such module or attribute, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        raise error(f"{name}: name the module, not its file: {module_name.removesuffix('.py')}:{attribute}")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, where it shadows nothing
    importlib.invalidate_caches()
    with foreign(name, error):
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


def one_line(error: object) -> str:
    """An error's words on one line of bounded length."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a foreign exception may even fail to say what it is
        text = ""
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + " ..."


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended with sys.exit({error.code!r})"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    return f"{type(error).__name__}: {one_line(error)}"


def _place(error: BaseException) -> str:
    """Where in the user's own code it happened: its innermost line that is not of an installed package."""
    ours = str(Path(__file__).resolve().parents[1])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((ours, "<", sys.base_prefix)) and "site-packages" not in frame.filename:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""
