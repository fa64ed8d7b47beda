import numpy as np
import pytest

from fedlp_edge.core.algorithm.plausibility import deviations, find_suspect, sizes_of, squared_norm
from fedlp_edge.core.blueprint import TensorSpec, Unit

NORM = (TensorSpec("mean", (4,), "statistic"), TensorSpec("var", (4,), "statistic", 0.0))
UNITS = (
    Unit("L1", "conv", "layer", 1, (TensorSpec("w", (4,)), *NORM)),
    Unit("H1", "out", "head", 1, (TensorSpec("h", (4,)),)),
)
WEIGHTS = {name: np.full(4, value, np.float32) for name, value in {"w": 1.0, "mean": 0.0, "var": 1.0, "h": 0.0}.items()}


def update(**values: float) -> dict[str, np.ndarray]:
    return {name: np.full(4, value, np.float32) for name, value in values.items()}


def judged(*updates: dict[str, np.ndarray]) -> list[float]:
    sizes = {f"dev-{number}": sizes_of(UNITS, one) for number, one in enumerate(updates)}
    return [round(times, 3) for _, times in sorted(deviations(UNITS, WEIGHTS, sizes).items())]


def test_sizes_are_norms_of_the_changes_of_a_unit_and_of_each_statistic_and_of_the_roots_of_a_variance():
    assert sizes_of(UNITS, update(w=0.5, mean=-1.0, var=9.0)) == {"L1": 1.0, "mean": 2.0, "var": 6.0}
    assert sizes_of(UNITS, update(h=0.0)) == {"H1": 0.0}


@pytest.mark.parametrize("value", [2.0**100, 2.0**-100], ids=["large", "small"])
def test_sizes_are_right_where_float32_cannot_hold_the_squares(value: float):
    assert sizes_of(UNITS, update(w=value)) == {"L1": 2 * value}


def test_norm_of_many_elements_is_that_of_float64():
    many = np.linspace(-1.0, 1.0, 200_003, dtype=np.float32)
    assert squared_norm(many) == pytest.approx(float(np.sum(many.astype(np.float64) ** 2)), rel=1e-6)


def test_deviations_are_from_the_median_of_the_cohort():
    assert judged(update(w=0.1), update(w=0.2), update(w=0.2), update(w=-80.0)) == [0.5, 1.0, 1.0, 400.0]


def test_one_statistic_that_is_far_off_is_enough():
    honest = update(w=0.1, mean=0.5, var=1.0)
    assert judged(honest, honest, honest, update(w=0.1, mean=-(2.0**20), var=1.0)) == [1.0, 1.0, 1.0, 2.0**21]


def test_variances_are_measured_in_the_unit_of_the_means():
    """Activations that are 15 times as large have 225 times the variance."""
    honest = update(w=0.1, mean=0.5, var=1.0)
    assert judged(honest, honest, honest, update(w=0.1, mean=7.5, var=225.0)) == [1.0, 1.0, 1.0, 15.0]
    assert judged(honest, honest, honest, update(w=0.1, mean=0.5, var=2.0**20)) == [1.0, 1.0, 1.0, 1024.0]


def test_what_is_small_beside_the_unit_itself_is_never_too_large():
    # A hundredth of the unit's own size is the least measure, and 0.001 that of a statistic.
    assert judged(*[update(w=1e-9, mean=0.0)] * 3, update(w=0.5, mean=0.05)) == [0.0, 0.0, 0.0, 50.0]


def test_two_devices_are_measured_by_the_unit_itself():
    assert judged(update(w=0.55), update(w=-1100.0)) == [0.5, 1000.0]
    # A head that begins with zeros may change, and what two devices say of data nobody else can judge.
    assert judged(update(h=1.0, var=1e9), update(h=1.0, var=1.0)) == [10.0, 10.0]


@pytest.mark.parametrize(
    ("given", "blamed"),
    [
        ({"a": 1.0, "b": 1.0, "c": 3.0}, "c"),
        ({"a": 1.0, "b": 1.0, "c": 2.9}, None),
        ({"a": 0.5, "b": 1.5}, "b"),
        ({"a": 1e9}, None),
        ({}, None),
    ],
)
def test_suspect_is_who_stands_out(given, blamed):
    assert find_suspect(given) == blamed
