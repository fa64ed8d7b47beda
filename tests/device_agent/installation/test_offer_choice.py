"""Which of several models a device installs, by what each costs on it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from device_agent.installation.offer_choice import choose_offer, measured_cost
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.core.planning.model_choice import NO_LIMITS, AnswerLimits
from fedlp_edge.errors import DeviceError, PeerError
from fedlp_edge.wire.messages import ModelOffer

EXACT = ModelOffer(model="r/net.onnx", depth=2, value=0.90)
INT8 = ModelOffer(model="r/net-int8.onnx", depth=2, precision="int8", value=0.895)
SHALLOW = ModelOffer(model="r/net-d1.onnx", depth=1, value=0.7)


def choose(
    costs: dict[str, float | DeviceError | PeerError], limits: AnswerLimits = NO_LIMITS, *offers: ModelOffer
) -> ModelOffer:
    """Chooses with these milliseconds by name; an error is what comes of fetching or measuring a file."""

    def measure(path: Path) -> MeasuredCost:
        cost = costs[str(path)]
        if not isinstance(cost, float):
            raise cost
        return MeasuredCost(milliseconds={90: cost}, mean_milliseconds=cost, memory=10)

    return choose_offer(offers or (EXACT, INT8, SHALLOW), Path, measure, limits, higher=True)


def test_float32_is_installed_where_int8_is_slower(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    costs: dict[str, float | DeviceError | PeerError] = {EXACT.model: 2.0, INT8.model: 3.0, SHALLOW.model: 1.0}
    assert choose(costs) == EXACT
    assert caplog.messages == [
        "of 3 models: net.onnx, 2 ms an answer, 0 MB: the fastest of those worth as much; net-int8.onnx takes 3 ms"
    ]
    assert choose(costs | {INT8.model: 1.0}) == INT8


def test_a_shallow_model_is_installed_where_the_others_are_too_slow() -> None:
    costs: dict[str, float | DeviceError | PeerError] = {EXACT.model: 2.0, INT8.model: 3.0, SHALLOW.model: 1.0}
    assert choose(costs, AnswerLimits(milliseconds=1.5)) == SHALLOW


def test_what_does_not_run_or_is_not_signed_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    broken = {EXACT.model: DeviceError("no such operator"), INT8.model: PeerError("not assigned"), SHALLOW.model: 1.0}
    assert choose(broken) == SHALLOW
    assert "net.onnx is not considered, since it does not run here: no such operator" in caplog.messages
    with pytest.raises(DeviceError, match="none of the 1 models that are offered runs here"):
        choose(broken, NO_LIMITS, EXACT)


def test_a_file_that_is_no_model_is_told_apart_from_a_slow_one(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"?")
    with pytest.raises(DeviceError, match="it is cut short, damaged or no ONNX file"):
        measured_cost(tmp_path / "m.onnx", 1)
