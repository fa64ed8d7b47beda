"""The state of a run at the broker, in memory and in fleets in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator.inbox import StopRequested
from coordinator.monitoring.settings import MonitoringSettings
from coordinator.monitoring.state_topic import StateTopic
from fedlp_edge.reporting.events import AnyEvent, BrokerDisconnected, RoundStarted, RunStarted
from fedlp_edge.transport.base import Refused
from fedlp_edge.transport.in_memory import MemoryHub, MemoryTransport
from fedlp_edge.wire.topics import Topics
from tests.fleets.virtual import FLEET, VirtualFleet

TOPICS = Topics("shop")
STARTED = RunStarted(time=0.0, run="shop-1", fleet="shop", model="mlp", depths=2, parameters=9, rounds=4)
ON = MonitoringSettings(topic=True)


class Watched:
    """A state topic at a broker in memory, and a clock."""

    def __init__(self, settings: MonitoringSettings = ON, earlier: tuple[AnyEvent, ...] = ()) -> None:
        self.hub, self.now = MemoryHub(), 0.0
        self.transport = MemoryTransport(self.hub, "coordinator")
        self.transport.start(lambda event: None)
        self.topic = StateTopic(settings, self.transport, TOPICS, lambda: self.now, lambda: list(earlier))

    @property
    def state(self) -> Any:
        return json.loads(self.hub.retained[TOPICS.state])


def test_nothing_is_published_by_default() -> None:
    watched = Watched(MonitoringSettings())
    watched.topic.take(STARTED)
    watched.topic.tick()
    watched.topic.end(1, finished=False)
    assert watched.hub.retained == {}


def test_news_wait_a_second_and_what_is_no_news_is_not_published() -> None:
    watched = Watched()
    watched.topic.take(STARTED)
    watched.topic.tick()
    assert watched.state["phase"] == "waiting"
    watched.topic.take(RoundStarted(time=1.0, round=1, devices=("a",), deadline_seconds=9))
    watched.topic.tick()
    assert watched.state["phase"] == "waiting"
    watched.now = 1.0
    watched.topic.tick()
    assert (watched.state["phase"], watched.state["devices"]["training"]) == ("round", 1)
    watched.hub.retained.clear()
    watched.now = 5.0
    watched.topic.tick()
    assert watched.hub.retained == {}
    watched.topic.connected()  # to a broker that has forgotten everything
    watched.topic.tick()
    assert watched.state["phase"] == "round"


def test_run_that_goes_on_knows_what_was_before() -> None:
    watched = Watched(earlier=(STARTED, RoundStarted(time=1.0, round=1, devices=("a",), deadline_seconds=9)))
    watched.topic.take(msgspec.structs.replace(STARTED, resumed_at=2))
    watched.topic.tick()
    assert (watched.state["committed"], watched.state["devices"]["away"]) == (1, 1)


def test_end_says_whether_the_run_is_finished_was_stopped_or_has_failed() -> None:
    watched = Watched()
    watched.topic.take(STARTED)
    watched.topic.take(BrokerDisconnected(time=1.0, reason="gone"))
    watched.topic.end(3, finished=False)
    assert (watched.state["phase"], watched.state["note"]) == ("stopped", "stopped in round 3")
    watched.topic.end(3, finished=False, error="the disk is full")
    assert (watched.state["phase"], watched.state["trouble"]) == ("stopped", "the disk is full")


def test_home_assistant_is_told_what_to_show_once_the_run_is_known() -> None:
    watched = Watched(MonitoringSettings(home_assistant=True, discovery_prefix="ha"))
    watched.topic.tick()
    assert watched.hub.retained == {}
    watched.topic.take(STARTED)
    watched.topic.tick()
    assert {"ha/sensor/fedlp_shop/phase/config", TOPICS.state} <= watched.hub.retained.keys()


def test_broker_that_refuses_descriptions_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(MonitoringSettings(home_assistant=True))
    watched.topic.take(STARTED)
    for key in ("phase", "round"):
        refusal = Refused(f"homeassistant/sensor/fedlp_shop/{key}/config", "Not authorized", token=7)
        assert watched.topic.refused(refusal)
    assert [record.getMessage() for record in caplog.records] == [
        "the broker refuses what Home Assistant is to be told: homeassistant/sensor/fedlp_shop/phase/config: "
        "Not authorized; let the coordinator's login write to homeassistant/#"
    ]
    assert not watched.topic.refused(Refused(TOPICS.coordinator, "Not authorized", token=8))


def test_fleet_is_watched_from_its_start_to_its_end(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    fleet.config = msgspec.structs.replace(fleet.config, monitoring=ON)
    seen: list[str] = []
    fleet.on_event = lambda event: seen.append(retained(fleet)["phase"] if retained(fleet) else "")
    fleet.start_all()
    summary = fleet.finish()
    state = retained(fleet)
    assert (state["phase"], state["committed"], state["devices"]["out"]) == ("finished", 2, 0)
    assert summary.final is not None
    assert state["values"] == {str(depth): value for depth, value in summary.final.accuracy.items()}
    assert {"waiting", "round"} <= set(seen)


def test_stopped_fleet_says_so(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    fleet.config = msgspec.structs.replace(fleet.config, monitoring=ON)
    coordinator = fleet.start("coordinator")
    fleet.on_event = lambda event: coordinator.inbox.put(StopRequested()) if isinstance(event, RunStarted) else None
    fleet.until_ended()
    assert (retained(fleet)["phase"], retained(fleet)["note"]) == ("stopped", "stopped in round 1")


def retained(fleet: VirtualFleet) -> Any:
    payload = fleet.world.hub.retained.get(Topics(FLEET).state)
    return payload and json.loads(payload)
