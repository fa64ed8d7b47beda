from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.planning.calibration import Calibration, OperationCost
from fedlp_edge.core.step_cost import Work

COST = OperationCost(mac=0.5, moved=0.25, held=2.0, operation=10.0)


def test_seconds_grow_with_samples_and_come_once_for_a_step() -> None:
    work = Work(macs=8, moved=4, held=3, operations=2)

    assert COST.sample(work) == 8 * 0.5 + 4 * 0.25
    assert COST.step(work) == 3 * 2.0 + 2 * 10.0


def test_tells_times_only_if_paces_were_measured() -> None:
    assert not Calibration().timed
    assert Calibration(paces={"product": COST}).timed


def test_reads_back_what_a_device_reported() -> None:
    reported = Calibration(base=1000.0, paces={"convolution": COST}, correction=1.5)

    text = msgspec.json.encode(reported)

    assert b'"convolution":[0.5,0.25,2.0,10.0]' in text
    assert msgspec.json.decode(text, type=Calibration) == reported


@pytest.mark.parametrize("report", [b'{"exact":-0.5}', b'{"cached":1e7}', b'{"paces":{"prayer":[1,1,1,1]}}'])
def test_refuses_what_no_device_can_measure(report: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(report, type=Calibration)
