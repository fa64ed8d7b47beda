"""This module handles Ctrl-C while a command still loads its modules, with one line instead of Python's traceback.

Every entry point calls it before any other import, so it imports only modules that the interpreter has loaded or built
in. Nothing is open yet that must be closed, and an exception inside the import system may be lost, so the process ends
at once. Later ``lifecycle.run_command`` takes over.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal first loads enum and more: a tenth of a second on a board
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

EXIT_ERROR = 2
EXIT_STOPPED = 130


def end_at_once_on_interrupt() -> None:
    """Makes Ctrl-C end the process with one line; must be called in the main thread."""
    _signal.signal(_signal.SIGINT, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    del number, frame
    os.write(2, b"Stopped.\n")
    os._exit(EXIT_STOPPED)
