"""One coordinator to a fleet and one agent to a name: whoever is there stays, whatever a newcomer's clock says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fedlp_edge.errors import DeviceError, OperatorError
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.wire.messages import PROTOCOL
from tests.fleets.fleet import Fleet
from tests.fleets.test_faults_killed import differences
from tests.fleets.virtual import VirtualFleet


def test_agent_with_an_earlier_clock_does_not_take_the_name_of_one_that_is_there(tmp_path: Path) -> None:
    undisturbed = VirtualFleet(tmp_path / "undisturbed", rounds=14)
    undisturbed.start_all()
    expected = undisturbed.finish()
    for second in range(6, 9):
        fleet = VirtualFleet(tmp_path / f"{second}", rounds=14)
        fleet.world.after(second, partial(fleet.start, "dev-1.2", session="0000-early"))
        fleet.start_all()
        assert differences(fleet, fleet.finish(), expected) == []
        twin = fleet.ended("dev-1.2")
        assert isinstance(twin, DeviceError), second
        assert 'already connected as device "dev-1"' in str(twin)


def test_second_coordinator_ends_with_one_line_and_changes_nothing(tmp_path: Path) -> None:
    undisturbed = VirtualFleet(tmp_path / "undisturbed", rounds=4)
    undisturbed.start_all()
    expected = undisturbed.finish()
    for turn in range(20, 200, 20):
        fleet = VirtualFleet(tmp_path / f"{turn}", rounds=4)
        fleet.world.at_turn[turn] = partial(fleet.start, "coordinator.2")
        fleet.start_all()
        assert differences(fleet, fleet.finish(), expected) == [], turn
        second = fleet.ended("coordinator.2")
        assert isinstance(second, OperatorError), turn
        assert str(second).startswith("another coordinator (run ")
        assert "let it end, or stop it, or give this fleet another name" in str(second)


def test_announcement_of_a_dead_coordinator_holds_nobody_up_for_long(tmp_path: Path) -> None:
    """Its machine lost power, and the broker did not say goodbye for it."""
    fleet = VirtualFleet(tmp_path, rounds=1)
    fleet.world.hub.retained["fedlp/virtual/coordinator"] = (
        b'{"type":"Announcement","online":true,"run":"old","session":"old","state":"running","protocol":%d}' % PROTOCOL
    )
    fleet.start_all()
    assert fleet.finish().final is not None
    assert fleet.world.now < 15


@pytest.mark.system
def test_second_coordinator_over_mosquitto_ends_with_one_line(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with (
        Fleet(tmp_path / "first", mosquitto.url, "twice", devices=1) as first,
        Fleet(tmp_path / "second", mosquitto.url, "twice", devices=1) as second,
    ):
        first.start_coordinator()
        first.wait_for(bool)
        second.start_coordinator()
        assert second.processes.pop("coordinator").wait(60) == 2
        lines = (tmp_path / "second" / "coordinator.log").read_text().splitlines()
        assert [line for line in lines if line.startswith("error: another coordinator (run ")]
        assert first.processes["coordinator"].poll() is None
