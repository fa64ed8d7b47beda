"""This module implements ``fedlp coordinator`` and ``fedlp agent``, which start the services.

They are found by the names of their installed commands: no module of this package imports a service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from fedlp_edge.errors import OperatorError


def run_service(name: str, arguments: Sequence[str]) -> None:
    """Runs a console script of this distribution in this process, as if it had been called by its name.

    Args:
        name: Such as ``fedlp-agent``.
        arguments: Arguments that follow the command.

    Raises:
        OperatorError: No such command is installed.
    """
    found = list(entry_points(group="console_scripts", name=name))
    if not found:
        raise OperatorError(f"{name} is not installed; install the whole fedlp-edge package")
    start = found[0].load()
    sys.argv = [name, *arguments]
    start()
