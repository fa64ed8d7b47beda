"""This module ends commands that break while they are loaded with one line, in place of a traceback.

Often ``PYTHONPATH`` is the cause, with packages of another program:

ROS and vendors of boards set it in every shell, for a Python of another version. Its directories come before the
packages that were installed with this program.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from fedlp_edge.system.early_interrupt import EXIT_ERROR
from fedlp_edge.system.loading.loading_errors import loading_failure

_OWN = Path(__file__).resolve().parents[3]


def end_with_cause(error: Exception) -> NoReturn:
    """Ends the process with one line if a package cannot be loaded, and names ``PYTHONPATH`` if that brought it in.

    Args:
        error: What was raised while a command was loaded.

    Raises:
        Exception: The error itself, which is a defect of this program or of its installation.
    """
    place = foreign_place(error, os.environ.get("PYTHONPATH", ""))
    if place is None:
        if not (text := loading_failure(error)):
            raise error
        print(f"error: {text}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    print(
        f"error: {place} cannot be loaded ({what}): PYTHONPATH puts packages of another program before this one's; "
        f"start it without, as in: env -u PYTHONPATH {Path(sys.argv[0]).name}",
        file=sys.stderr,
    )
    sys.exit(EXIT_ERROR)


def foreign_place(error: Exception, search_path: str) -> Path | None:
    """Returns the file of another program in which an import failed; None if it failed elsewhere.

    Args:
        error: What was raised by the import.
        search_path: ``PYTHONPATH``.
    """
    places = [Path(entry).resolve() for entry in search_path.split(os.pathsep) if entry]
    foreign = [place for place in places if place != _OWN]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if any(file.resolve().is_relative_to(place) for place in foreign):
            return file
    return None
