from __future__ import annotations

from coordinator.rounds.fitness_reports import explain_all_unfit


def test_names_the_only_device() -> None:
    assert explain_all_unfit({"a": "no memory"}) == "the only device, a, cannot do its task: no memory"


def test_states_a_shared_reason_once() -> None:
    assert explain_all_unfit({"a": "no memory", "b": "no memory"}).endswith("all for the same reason: no memory")


def test_names_a_few_devices_and_counts_the_others() -> None:
    line = explain_all_unfit({f"d{number}": f"reason {number}" for number in range(6)})
    assert "d3: reason 3; and 2 more" in line
    assert "d4" not in line
