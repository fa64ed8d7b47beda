"""This module names ``PYTHONPATH`` as the cause where packages of another program break the start of a command.

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

_OWN = Path(__file__).resolve().parents[2]


def end_with_cause(error: Exception) -> NoReturn:
    """Ends the process with one line if the import failed in a package that ``PYTHONPATH`` brought in.

    Args:
        error: What was raised while a command was loaded.

    Raises:
        Exception: The error itself, which is a defect of this program or of its installation.
    """
    place = foreign_place(error, os.environ.get("PYTHONPATH", ""))
    if place is None:
        raise error
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
