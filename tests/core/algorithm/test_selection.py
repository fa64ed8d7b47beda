import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.selection import draw_cohort, draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint, TensorSpec, Unit
from fedlp_edge.core.rounds.preference import preference as preference_of

UNITS = tuple(
    Unit(
        f"L{d}",
        f"block{d}",
        "layer",
        d,
        (TensorSpec(f"b{d}.w", (2,), "trained"), TensorSpec(f"b{d}.mean", (2,), "statistic")),
    )
    for d in range(1, 5)
)


def draw(**changes):
    options = {"lpr": 0.5, "lpr_of": {}, "seed": 1, "round": 1, "device": "pi", **changes}
    return draw_sent_tensors(UNITS, **options)


def test_retained_keeps_everything_at_rate_one():
    assert draw(lpr=1.0) == {f"L{d}": (f"b{d}.w", f"b{d}.mean") for d in range(1, 5)}


@pytest.mark.parametrize("granularity", ["layer", "tensor"])
def test_retained_keeps_nothing_at_rate_zero(granularity):
    assert draw(lpr=0.0, granularity=granularity) == {}


def test_retained_gives_known_draws():
    assert [list(draw(round=number)) for number in range(1, 5)] == [["L1"], ["L2"], ["L1", "L2"], ["L4"]]
    assert draw(granularity="tensor") == {"L1": ("b1.w",), "L2": ("b2.mean",), "L3": ("b3.w",), "L4": ("b4.w",)}


def test_retained_keeps_a_layers_statistics_with_its_weights():
    for number in range(1, 50):
        for unit, names in draw(round=number).items():
            assert names == (f"b{unit[1]}.w", f"b{unit[1]}.mean")


def test_retained_splits_units_when_tensors_are_drawn():
    sizes = {len(names) for number in range(1, 50) for names in draw(round=number, granularity="tensor").values()}
    assert sizes == {1, 2}


@pytest.mark.parametrize("change", [{"seed": 2}, {"device": "jetson"}])
def test_retained_depends_on_seed_and_device(change):
    assert [draw(round=n) for n in range(1, 10)] != [draw(round=n, **change) for n in range(1, 10)]


def test_retained_depends_on_the_round():
    # All 16 subsets of four layers turn up.
    assert len({tuple(draw(round=n)) for n in range(1, 200)}) == 16


def test_retained_takes_a_rate_per_unit():
    assert list(draw(lpr=0.0, lpr_of={"L2": 1.0, "L4": 1.0})) == ["L2", "L4"]
    assert list(draw(lpr=1.0, lpr_of={"L1": 0.0})) == ["L2", "L3", "L4"]


@given(st.integers(0, 2**53), st.randoms(use_true_random=False))
def test_retained_does_not_depend_on_the_order_of_units(seed: int, order: random.Random):
    shuffled = list(UNITS)
    order.shuffle(shuffled)
    options = {"lpr": 0.5, "seed": seed, "round": 3, "device": "pi"}
    rates = {"L1": 0.2, "L3": 0.9}
    backwards = dict(reversed(rates.items()))
    assert draw_sent_tensors(UNITS, lpr_of=rates, **options) == draw_sent_tensors(shuffled, lpr_of=backwards, **options)


@given(st.integers(0, 2**53), st.floats(0, 1), st.floats(0, 1))
def test_retained_at_a_higher_rate_contains_the_lower(seed: int, one: float, other: float):
    low, high = sorted((one, other))
    assert draw(seed=seed, lpr=low).keys() <= draw(seed=seed, lpr=high).keys()


@pytest.mark.parametrize("granularity", ["layer", "tensor"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_retained_meets_its_rate_on_average(rate: float, granularity):
    draws = 4 * 2 * 1500
    kept = sum(len(n) for r in range(1500) for n in draw(lpr=rate, round=r, granularity=granularity).values())
    assert kept / draws == pytest.approx(rate, abs=0.025)


def test_retained_draws_layers_independently_of_each_other():
    both = sum({"L1", "L2"} <= draw(round=number).keys() for number in range(2000))
    assert both / 2000 == pytest.approx(0.25, abs=0.04)


def test_retained_leaves_out_units_without_tensors():
    empty = Unit("L1", "flatten", "layer", 1, ())
    assert draw_sent_tensors([empty], lpr=1.0, lpr_of={}, seed=1, round=1, device="pi") == {}


def test_retained_of_a_shallow_device_equals_the_draws_of_a_deep_one(paper_cnn: Blueprint):
    options = {"lpr": 0.5, "lpr_of": {}, "seed": 4, "round": 2, "device": "pi"}
    deep = draw_sent_tensors(paper_cnn.exchanged_by(5), **options)
    shallow = draw_sent_tensors(paper_cnn.exchanged_by(2), **options)
    assert shallow == {unit: deep[unit] for unit in ("L1", "L2") if unit in deep}


def test_cohort_takes_everybody_when_the_size_is_zero():
    assert draw_cohort(["c", "a", "b"], 0, seed=1, round=1) == ("a", "b", "c")


def test_cohort_gives_known_samples():
    names = [f"d{n}" for n in range(6)]
    assert [draw_cohort(names, 2, seed=1, round=number) for number in (1, 2, 3)] == [
        ("d4", "d5"),
        ("d0", "d1"),
        ("d2", "d5"),
    ]


def test_cohort_takes_all_when_fewer_are_there():
    assert draw_cohort(["b", "a"], 5, seed=1, round=1) == ("a", "b")
    assert draw_cohort([], 3, seed=1, round=1) == ()


@given(st.sets(st.text("abcdef", min_size=1), min_size=1, max_size=12), st.integers(1, 6), st.integers(0, 2**53))
def test_cohort_changes_in_one_place_at_most_when_a_device_joins(names: set[str], size: int, seed: int):
    before = set(draw_cohort(names, size, seed=seed, round=1))
    after = set(draw_cohort(names | {"newcomer"}, size, seed=seed, round=1))
    assert after - before <= {"newcomer"}
    assert len(before - after) <= 1


@given(st.sets(st.text("abcdef", min_size=1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_cohort_does_not_depend_on_the_order_of_candidates(names: set[str], order: random.Random):
    shuffled = sorted(names)
    order.shuffle(shuffled)
    assert draw_cohort(shuffled, 3, seed=1, round=1) == draw_cohort(sorted(names), 3, seed=1, round=1)


def test_cohort_is_fair_over_many_rounds():
    names = [f"d{n}" for n in range(10)]
    chosen = [device for number in range(2000) for device in draw_cohort(names, 3, seed=1, round=number)]
    for name in names:
        assert chosen.count(name) / 2000 == pytest.approx(0.3, abs=0.05)


def test_cohort_chooses_whom_it_prefers_as_much_more_often():
    depths = {f"d{i:02}": 1 + i % 2 for i in range(40)}
    preference = preference_of(depths, 2, prefer_deepest=3.0)
    assert preference is not None
    drawn = [
        device for round in range(2000) for device in draw_cohort(depths, 1, seed=1, round=round, preference=preference)
    ]
    assert sum(depths[device] == 2 for device in drawn) / 2000 == pytest.approx(0.75, abs=0.03)


def test_cohort_with_equal_preferences_is_the_one_without():
    names = [f"d{i}" for i in range(20)]
    for round in range(20):
        assert draw_cohort(names, 5, seed=3, round=round, preference=dict.fromkeys(names, 2.0)) == draw_cohort(
            names, 5, seed=3, round=round
        )
