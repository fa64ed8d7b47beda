from __future__ import annotations

import pytest

from fedlp_edge.cli.services import run_service
from fedlp_edge.errors import OperatorError


def test_says_that_a_service_is_not_installed() -> None:
    with pytest.raises(OperatorError, match="fedlp-nothing is not installed"):
        run_service("fedlp-nothing", [])
