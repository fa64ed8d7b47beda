"""What is expected of a device that is known by its profile alone."""

from __future__ import annotations

import pytest

from fedlp_edge.probe.expected import RUNTIME_MEMORY, expected_facts, expected_training_memory
from fedlp_edge.probe.host import BOARD_SYSTEM_MEMORY
from fedlp_edge.probe.profiles import DeviceProfile

MB = 1_000_000


@pytest.mark.parametrize(
    ("ram", "budget", "expected"),
    [
        (4000, None, 4000 * MB - BOARD_SYSTEM_MEMORY - RUNTIME_MEMORY),
        (4000, 300, 300 * MB),
        (600, 300, 600 * MB - BOARD_SYSTEM_MEMORY - RUNTIME_MEMORY),
        (512, None, 0),
        (None, 300, 300 * MB),
        (None, None, None),
    ],
)
def test_leaves_training_the_least_of_what_limits_it(ram: int | None, budget: int | None, expected: int | None):
    assert expected_training_memory(DeviceProfile(ram_mb=ram, training_memory_mb=budget)) == expected


def test_takes_everything_else_from_the_profile():
    profile = DeviceProfile(name="box", ram_mb=1000, threads=2, training_gmacs_per_second=1.5, link_mbit_per_second=8)
    facts = expected_facts(profile, samples=40)
    assert facts is not None
    assert (facts.profile, facts.memory_total, facts.threads, facts.samples) == ("box", 1000 * MB, 2, 40)
    assert (facts.training_macs_per_second, facts.link_bytes_per_second) == (1.5e9, 1e6)


def test_knows_no_speed_that_is_not_stated():
    facts = expected_facts(DeviceProfile(ram_mb=1000), samples=1)
    assert facts is not None
    assert (facts.training_macs_per_second, facts.link_bytes_per_second) == (0.0, None)


def test_expects_nothing_of_a_profile_without_memory():
    assert expected_facts(DeviceProfile(threads=2), samples=1) is None
