from __future__ import annotations

from fractions import Fraction
from statistics import median_low

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.aggregation import LayerwiseMean, capacity_of
from fedlp_edge.core.algorithm.plausibility import sizes_of
from fedlp_edge.core.algorithm.resolution import (
    FLOAT32_STEP,
    MAX_ROUNDING_ERROR,
    WeightLimit,
    rounding_error,
    weight_limit,
)
from fedlp_edge.core.blueprint import TensorSpec, Unit
from fedlp_edge.core.rounds.settings import RoundSettings

SHARED = Unit("L1", "conv", "layer", 1, (TensorSpec("w", (4,)),))
DEEP = Unit("L2", "deep", "layer", 2, (TensorSpec("d", (4,)),))
UNITS = (SHARED, DEEP)
PRESENT = {"L1": 0.2, "L2": 0.2}  # root mean square 0.1


def change(**values: float) -> dict[str, np.ndarray]:
    return {name: np.full(4, value, np.float32) for name, value in values.items()}


def limit(updates: dict[str, dict[str, np.ndarray]], weights: dict[str, int]) -> WeightLimit | None:
    return weight_limit(UNITS, PRESENT, {d: sizes_of(UNITS, update) for d, update in updates.items()}, weights)


def test_rounding_error_is_half_a_step_for_each_sender():
    # Capacity 2^10: steps of 2^(10 - 42) before the division by the weight.
    assert rounding_error(1024, senders=3, weight=300) == 3 * 2.0**-33 / 300


def test_equal_weights_need_no_limit():
    both = {device: change(w=1e-3, d=1e-3) for device in "abc"}
    assert limit(both, dict.fromkeys("abc", 100)) is None
    assert limit({}, {}) is None


def test_a_device_of_2_to_the_53_samples_is_limited_where_others_would_be_rounded_away():
    updates = {"a": change(w=1e-3, d=1e-3), "b": change(w=1e-3, d=1e-3), "boastful": change(w=1e-3)}
    weights = {"a": 100, "b": 100, "boastful": 2**53}
    # Rounding to multiples of 2^(54 - 42), of what weighs 100: a change of 0.001 would be nothing.
    mean = LayerwiseMean(capacity_of(weights.values()))
    for device, update in updates.items():
        mean.add(update, weights[device])
    assert mean.means()["d"].tolist() == [0.0] * 4

    found = limit(updates, weights)

    assert found is not None
    assert found.unit == "L2"
    assert found.share > 1000
    assert 100 <= found.most < 2**30
    lighter = {device: min(weight, found.most) for device, weight in weights.items()}
    finer = LayerwiseMean(capacity_of(lighter.values()))
    for device, update in updates.items():
        finer.add(update, lighter[device])
    assert np.allclose(finer.means()["d"], 1e-3, rtol=MAX_ROUNDING_ERROR)
    assert limit(updates, lighter) is None


def test_nobody_makes_the_usual_device_lighter_than_it_is():
    """By changes so small, of a layer that nobody else sends, that no sum could hold them."""
    updates = {device: change(w=1e-3) for device in "abc"} | {"tiny": change(w=1e-3, d=1e-30)}
    found = limit(updates, {"a": 10**8, "b": 10**8, "c": 10**9, "tiny": 1})
    assert found is not None
    assert found.most == 10**8


def test_changes_below_the_spacing_of_the_weights_need_no_finer_sum():
    updates = {device: change(w=1e-13) for device in "ab"}
    assert limit(updates, {"a": 10, "b": 10**6}) is None


weights_within_bounds = st.integers(1, 10**6).flatmap(
    lambda usual: st.lists(st.integers(1, 100 * usual), min_size=1, max_size=8).map(
        lambda others: [*others, *[usual] * len(others)]
    )
)


@settings(max_examples=15, deadline=None)
@given(weights_within_bounds, st.sampled_from([1e-5, 1e-3, 0.1, 10.0]), st.integers(0, 2**32))
def test_means_are_as_exact_as_stated_whatever_is_announced_within_the_bounds(announced, size, seed):
    """Where everybody sends a unit, to m * 2^-42; where the lightest alone does, to a thousandth of its changes."""
    rng = np.random.default_rng(seed)
    most = int(RoundSettings().max_sample_ratio * median_low(announced))
    weights = {str(number): min(weight, most) for number, weight in enumerate(announced)}
    lightest = min(weights, key=lambda device: weights[device])
    updates = {}
    for device in weights:
        values = (rng.uniform(0.5, 1.0, 4) * size * rng.choice([-1, 1], 4)).astype(np.float32)
        updates[device] = {"w": values} | ({"d": values} if device == lightest else {})
    found = limit(updates, weights)
    if found:
        weights = {device: min(weight, found.most) for device, weight in weights.items()}
    mean = LayerwiseMean(capacity_of(weights.values()))
    for device, update in updates.items():
        mean.add(update, weights[device])

    usual = median_low(weights.values())
    for name, senders in (("w", list(weights)), ("d", [lightest])):
        total = sum(weights[device] for device in senders)
        exact = [sum(Fraction(float(updates[d][name][i])) * weights[d] for d in senders) / total for i in range(4)]
        bound = len(senders) * 2.0**-42 if name == "w" else max(MAX_ROUNDING_ERROR * size, FLOAT32_STEP * 0.2)
        if name == "d" and found and found.most == usual:
            bound = rounding_error(capacity_of(weights.values()), 1, total)
        for got, wanted in zip(mean.means()[name].tolist(), exact, strict=True):
            assert abs(Fraction(got) - wanted) <= Fraction(bound) + abs(wanted) * Fraction(1, 2**23)
