from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.planning.device_facts import DeviceFacts


def test_texts_of_a_device_are_safe_to_print_and_short() -> None:
    facts = DeviceFacts(
        hostname="pi\x1b[2J", architecture="x" * 101, training_memory=1, training_macs_per_second=1.0, samples=1
    )

    assert facts.hostname == "pi\\x1b[2J"
    assert facts.architecture == "x" * 97 + "..."


def test_texts_are_escaped_when_a_report_is_decoded_too() -> None:
    report = b'{"training_memory":1,"training_macs_per_second":1,"samples":1,"cuda_name":"a\\nb"}'

    assert msgspec.json.decode(report, type=DeviceFacts).cuda_name == "a\\nb"


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (
            b'{"training_memory":-1,"training_macs_per_second":1,"samples":1}',
            "Expected `int` >= 0 - at `$.training_memory`",
        ),
        (b'{"training_memory":1,"training_macs_per_second":1}', "Object missing required field `samples`"),
    ],
)
def test_refuses_a_report_that_planning_cannot_use(report: bytes, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(report, type=DeviceFacts)
    assert str(refused.value) == message
