"""The signed file that names what one device installs."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.errors import UntrustedReleaseError
from fedlp_edge.release.signed_assignment import AssignedChoice, SignedAssignment, assignment_name, decode_assignment


def test_assignment_comes_back() -> None:
    assignment = SignedAssignment(device="pi-1", release="r1", model="r1/m.onnx", self_test="r1/m.selftest.npz")
    assert decode_assignment(msgspec.json.encode(assignment), "pi-1") == assignment
    assert assignment_name("pi-1") == "assignments/pi-1.json"


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "../m.onnx", "r1/../m.onnx", "r1/m/x.onnx", "m.onnx", "r1/m\n", ".r/m"]
)
def test_model_is_a_name_and_no_place(model: str) -> None:
    data = msgspec.json.encode({"device": "pi-1", "release": "r1", "model": model})
    with pytest.raises(UntrustedReleaseError, match="malformed"):
        decode_assignment(data, "pi-1")


def test_choices_come_back_and_older_assignments_have_none() -> None:
    choice = AssignedChoice(model="r1/m-int8.onnx")
    assignment = SignedAssignment(
        device="pi-1", release="r1", model="r1/m.onnx", self_test="r1/t.npz", choices=(choice,)
    )
    found = decode_assignment(msgspec.json.encode(assignment), "pi-1")
    assert found == assignment
    assert found.self_tests == {"r1/m.onnx": "r1/t.npz", "r1/m-int8.onnx": ""}
    assert found.names == ("r1/m.onnx", "r1/t.npz", "r1/m-int8.onnx")
    older = b'{"device":"pi-1","release":"r1","model":"r1/m.onnx","self_test":null}'
    assert decode_assignment(older, "pi-1").self_tests == {"r1/m.onnx": ""}
