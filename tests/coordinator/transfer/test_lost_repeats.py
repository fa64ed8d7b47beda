from __future__ import annotations

import pytest

from coordinator.transfer.lost_repeats import LostRepeats
from fedlp_edge.wire.messages import UnitRequest


def request(unit: str = "L1", *, device: str = "a", digest: str = "0", first: int = 0) -> UnitRequest:
    """For the chunks from ``first`` to 3."""
    return UnitRequest(run="run", device=device, unit=unit, digest=digest * 64, missing=((first, 4),))


def lengths(lost: LostRepeats, *requests: UnitRequest) -> list[int]:
    return [lost.most(one, 100_000) for one in requests]


def test_shortens_messages_when_the_very_same_is_asked_for_four_times() -> None:
    lost = LostRepeats()
    assert lengths(lost, *[request()] * 4) == [100_000, 100_000, 100_000, 25_000]
    assert lost.received_all("a") == 25_000


def test_goes_on_to_the_shortest_that_is_tried() -> None:
    lost = LostRepeats()
    taken = lengths(lost, *[request()] * 16)
    assert taken[3::4] == [25_000, 6_250, 2_048, 2_048]


@pytest.mark.parametrize("other", [request(first=1), request(digest="1")])
def test_begins_anew_when_something_has_come_or_the_version_changed(other: UnitRequest) -> None:
    lost = LostRepeats()
    assert lengths(lost, *[request()] * 3, other, *[request()] * 3) == [100_000] * 7
    assert lost.received_all("a") is None


def test_suspects_the_link_of_one_device_alone() -> None:
    lost = LostRepeats()
    lengths(lost, *[request()] * 4)
    assert lengths(lost, request(device="b"), request("L2")) == [100_000, 25_000]
    assert lost.received_all("b") is None


def test_forgets_a_device_that_is_offline() -> None:
    lost = LostRepeats()
    lengths(lost, *[request()] * 4)
    lost.gone("a")
    assert lost.received_all("a") is None
    assert lengths(lost, request()) == [100_000]


def test_shortens_messages_once_for_several_units_that_got_nothing() -> None:
    lost = LostRepeats()
    lengths(lost, *[request("L1"), request("L2")] * 3)
    assert lengths(lost, request("L1"), request("L2")) == [25_000, 25_000]


def test_begins_anew_once_a_device_has_all_that_it_needs() -> None:
    lost = LostRepeats()
    lengths(lost, *[request()] * 7)
    assert lost.received_all("a") == 25_000
    assert lengths(lost, *[request()] * 4) == [25_000, 25_000, 25_000, 6_250]
