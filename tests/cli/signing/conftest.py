from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.signing.signing_place import make_place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two fleet keys, an online key and an exported model."""
    monkeypatch.chdir(tmp_path)
    make_place()
    return tmp_path
