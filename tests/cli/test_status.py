"""The report of a run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.cli.status import run_status
from fedlp_edge.errors import StorageError


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no run"):
        run_status(tmp_path)
