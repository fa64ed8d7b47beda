"""By digest alone, the message of the roll-out says what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.installation.target_source import DigestSource, FileWantedError, ReleaseAssignment
from fedlp_edge.errors import PeerError
from tests.device_agent.installation.orders import files_of, install_of


def test_files_are_those_that_the_message_names(tmp_path: Path) -> None:
    files = files_of(tmp_path, b"model")
    source = DigestSource(install_of(b"model"), files)
    assert source.assigned() == ReleaseAssignment("r1", "m.onnx", "m.selftest.npz")
    assert source.fetch("m.onnx").read_bytes() == b"model"


def test_file_that_was_left_out_is_asked_for_and_another_one_refused(tmp_path: Path) -> None:
    source = DigestSource(install_of(b"model"), {})
    with pytest.raises(FileWantedError) as wanted:
        source.fetch("m.onnx")
    assert wanted.value.names == ("m.onnx",)
    with pytest.raises(PeerError, match=r"does not name the file other\.onnx"):
        source.fetch("other.onnx")
