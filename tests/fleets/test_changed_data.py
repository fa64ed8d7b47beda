"""Pictures that arrive while an agent runs: its report follows, and they count from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent import data_watch, service
from device_agent.limits import DataWatchLimits
from fedlp_edge.reporting.events import AnyEvent, DeviceJoined, UpdateAccepted, UpdateRejected
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Failed, Measure, Train
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet

PLACE = {"mark": "before", "samples": 100}
"""What lies at the place of everybody's data."""


class Loads(StandIn):
    """Has in memory what was there when it loaded last."""

    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Measure):
            self._samples = PLACE["samples"]
        return super()._do(job)


class DoesNotFitAtFirst(Loads):
    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Train) and self._samples == 100:
            return Failed(kind="data", reason="the labels go up to 7 but the model has 2 classes (0 to 1)")
        return super()._do(job)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setitem(PLACE, "mark", "before")
    monkeypatch.setitem(PLACE, "samples", 100)
    monkeypatch.setattr(data_watch, "_LIMITS", DataWatchLimits(interval_seconds=1.0))
    monkeypatch.setattr(service, "data_fingerprint", lambda spec: PLACE["mark"])
    return PLACE


def play(directory: Path, kind: type[StandIn]) -> list[AnyEvent]:
    fleet = VirtualFleet(directory, devices=2, rounds=12, worker={"dev-0": kind, "dev-1": kind}, rejoin_seconds=60)
    fleet.world.after(4.0, lambda: PLACE.update(mark="after", samples=149))
    fleet.start_all()
    assert fleet.finish().final is not None
    return fleet.events


def test_new_samples_are_reported_and_count(tmp_path: Path, place: dict[str, object]) -> None:
    events = play(tmp_path, Loads)
    assert not [event for event in events if isinstance(event, UpdateRejected)]
    for device in ("dev-0", "dev-1"):
        joined = [event.samples for event in events if isinstance(event, DeviceJoined) and event.device == device]
        counted = [event.samples for event in events if isinstance(event, UpdateAccepted) and event.device == device]
        assert (joined[0], joined[-1]) == (100, 149)
        assert counted == sorted(counted)
        assert (counted[0], counted[-1]) == (100, 149)


def test_device_that_was_unfit_takes_part_once_its_data_are_mended(tmp_path: Path, place: dict[str, object]) -> None:
    events = play(tmp_path, DoesNotFitAtFirst)
    assert {event.samples for event in events if isinstance(event, UpdateAccepted)} == {149}
