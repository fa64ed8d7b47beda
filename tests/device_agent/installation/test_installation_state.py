"""What is remembered of installations survives; what cannot be read is no state."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.installation.installation_state import Candidate, InstallationState, load_state, save_state
from tests.device_agent.installation.orders import install_of


def test_state_survives(tmp_path: Path) -> None:
    candidate = Candidate(install=install_of(b"new"), target="versions/b/m.onnx", phase="probation", attempts=1)
    state = InstallationState(current="versions/a/m.onnx", previous=("old.onnx",), candidate=candidate)
    save_state(state, tmp_path / "models")
    assert load_state(tmp_path / "models") == state


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"current": 3}'])
def test_state_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "installation.json").write_bytes(content)
    assert load_state(tmp_path) == InstallationState()
