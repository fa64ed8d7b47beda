"""This module implements ``fedlp coordinator`` and ``fedlp agent``, which start the services.

They are found by their names as this program runs: no module of this package imports a service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from fedlp_edge.errors import OperatorError

_PACKAGES = {"fedlp-agent": "device_agent", "fedlp-coordinator": "coordinator"}
"""Packages of the services by their commands. The metadata of an installation say the same, but a checkout on
``PYTHONPATH``, an image that leaves them out and a frozen program have none, or those of another version."""


def run_service(name: str, arguments: Sequence[str]) -> None:
    """Runs a console script of this distribution in this process, as if it had been called by its name.

    Args:
        name: Such as ``fedlp-agent``.
        arguments: Arguments that follow the command.

    Raises:
        OperatorError: The package of the service is not there.
    """
    package = _PACKAGES[name]
    if find_spec(package) is None:
        raise OperatorError(f"{name} is not installed; install the whole fedlp-edge package")
    start = import_module(f"{package}.main").run
    sys.argv = [name, *arguments]
    start()
