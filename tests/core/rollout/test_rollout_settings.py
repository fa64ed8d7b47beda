"""Groups of a roll-out: sizes, and that every device is in exactly one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.rollout.rollout_settings import RolloutSettings, group_size, rollout_groups

SIZES = st.one_of(st.integers(0, 30).map(str), st.integers(0, 100).map(lambda share: f"{share}%"))
NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=4), max_size=20)


@pytest.mark.parametrize(
    ("size", "devices", "expected"), [("3", 10, 3), ("30", 10, 10), ("5%", 10, 1), ("30%", 10, 3), ("0.1%", 10, 1)]
)
def test_share_of_a_fleet_is_rounded_up(size: str, devices: int, expected: int) -> None:
    assert group_size(size, devices) == expected


@pytest.mark.parametrize("size", ["-1", "5 %", "%", "1e3", "five", "5%%"])
def test_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="is no size of a group"):
        RolloutSettings(canary=size)


def test_named_canaries_are_the_first_group() -> None:
    groups = rollout_groups(RolloutSettings(groups=("2",)), ["a", "b", "c", "d", "e"], "r", canaries=("c",))
    assert groups[0] == ("c",)
    assert list(map(len, groups)) == [1, 2, 2]


def test_canary_is_not_the_same_device_for_every_release() -> None:
    devices = [f"dev-{number}" for number in range(10)]
    assert len({rollout_groups(RolloutSettings(), devices, f"r{number}")[0] for number in range(20)}) > 3


@given(canary=SIZES, groups=st.lists(SIZES, max_size=3), devices=NAMES)
def test_every_device_is_in_one_group(canary: str, groups: list[str], devices: set[str]) -> None:
    made = rollout_groups(RolloutSettings(canary=canary, groups=tuple(groups)), devices, "r")
    assert sorted(device for group in made for device in group) == sorted(devices)
    assert all(made)
