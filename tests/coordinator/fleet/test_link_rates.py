from __future__ import annotations

from coordinator.fleet.link_rates import FleetLinks, UnknownLinks
from coordinator.fleet.registry import Member
from fedlp_edge.core.planning.planner import Plan
from tests.coordinator.fleets import facts, tiny_blueprint


def member(device: str, depth: int, rate: float | None) -> Member:
    return Member(device, "s", facts(link_bytes_per_second=rate), Plan(depth, 1.0, "", 0, 1.0))


def links(*members: Member, deadline_seconds: float = 8.0) -> FleetLinks:
    """Of a model whose units have 8 bytes each: by default 1 byte per second is just enough to fetch one in time."""
    return FleetLinks(tiny_blueprint(), {one.device: one for one in members}, deadline_seconds)


def test_knows_the_rates_of_devices_that_are_online() -> None:
    fleet = links(member("a", 1, 500.0), member("b", 2, None))
    assert (fleet.rate("a"), fleet.rate("b"), fleet.rate("ghost")) == (500.0, None, None)


def test_finds_the_slowest_of_those_who_listen_to_a_unit() -> None:
    fleet = links(member("shallow", 1, 20.0), member("deep", 2, 300.0), member("silent", 2, None))
    assert {unit: fleet.slowest(unit) for unit in ("L1", "H1", "L2", "H2")} == {
        "L1": 20.0,
        "H1": 20.0,
        "L2": 300.0,
        "H2": 300.0,
    }


def test_does_not_ask_who_could_never_fetch_a_unit_in_time() -> None:
    assert links(member("a", 1, 1.0), member("b", 1, 5.0)).slowest("L1") == 1.0
    assert links(member("a", 1, 0.9), member("b", 1, 5.0)).slowest("L1") == 5.0
    assert links(member("a", 1, 0.9)).slowest("L1") is None


def test_sees_who_comes_and_goes() -> None:
    members = {"a": member("a", 1, 20.0)}
    fleet = FleetLinks(tiny_blueprint(), members, 8.0)
    members["b"] = member("b", 1, 10.0)
    assert fleet.slowest("L1") == 10.0
    members.clear()
    assert fleet.slowest("L1") is None


def test_a_device_without_a_place_listens_to_nothing() -> None:
    assert links(member("a", 0, 20.0)).slowest("L1") is None


def test_knows_nothing_of_unknown_links() -> None:
    assert (UnknownLinks().rate("a"), UnknownLinks().slowest("L1")) == (None, None)
