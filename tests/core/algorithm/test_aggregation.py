from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA, SCALE_BITS, LayerwiseMean


def array(*values: float):
    return np.array(values, dtype=np.float32)


def mean_of(updates, capacity: int):
    mean = LayerwiseMean(capacity)
    for deltas, weight in updates:
        mean.add(deltas, weight)
    return mean.means()


finite = st.floats(-100, 100, width=32)
update = st.tuples(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.tuples(finite, finite).map(lambda pair: array(*pair))),
    st.integers(1, 5000),
)


def test_means_weigh_by_samples():
    means = mean_of([({"w": array(1.0, -2.0)}, 1), ({"w": array(5.0, 2.0)}, 3)], capacity=4)
    assert means["w"].tolist() == [4.0, 1.0]
    assert means["w"].dtype == np.float32


def test_means_count_each_tensor_over_those_who_sent_it():
    updates = [({"a": array(1.0), "b": array(10.0)}, 2), ({"a": array(4.0)}, 1)]
    mean = LayerwiseMean(3)
    for deltas, weight in updates:
        mean.add(deltas, weight)
    assert {name: value.tolist() for name, value in mean.means().items()} == {"a": [2.0], "b": [10.0]}
    assert (mean.weight_of("a"), mean.weight_of("b"), mean.weight_of("c")) == (3, 2, 0)


def test_means_leave_out_a_tensor_that_nobody_sent():
    assert mean_of([({"a": array(1.0)}, 1)], capacity=8).keys() == {"a"}
    assert LayerwiseMean(8).means() == {}


def test_means_give_back_a_lone_delta_when_the_scale_holds_it():
    delta = array(0.1, -1e-3, 3.0, 0.0)
    assert mean_of([({"a": delta}, 7)], capacity=8)["a"].tolist() == delta.tolist()


def test_means_of_a_statistic_are_means_of_values_of_any_size():
    mean = LayerwiseMean(8, statistics={"var", "mean"})
    mean.add({"w": array(1.0), "var": array(0.5, 4e9, 0.0), "mean": np.float32(-3 * 2.0**100)[...]}, 1)
    mean.add({"w": array(2.0), "var": array(1.5, 0.0, 1e-6), "mean": np.float32(2.0**100)[...]}, 3)
    means = mean.means()
    assert means["w"].tolist() == [1.75]
    assert means["var"].tolist() == [1.25, 1e9, np.float32(0.75e-6)]
    assert means["mean"].shape == ()
    assert float(means["mean"]) == 0.0


@given(st.permutations(range(4)), st.lists(st.floats(0, 2.0**127, width=32), min_size=4, max_size=4))
def test_means_of_a_variance_lie_between_the_values_whatever_the_order(order, values):
    weights, statistics = (1, 7 * 256, 181, 3), {"var"}
    mean, again, rest = (LayerwiseMean(5000, statistics=statistics) for _ in range(3))
    for number, value in enumerate(values):
        mean.add({"var": array(value)}, weights[number])
    for number in order[:2]:
        again.add({"var": array(values[number])}, weights[number])
    for number in order[2:]:
        rest.add({"var": array(values[number])}, weights[number])
    again.merge(LayerwiseMean.from_arrays(rest.arrays(), 5000, statistics=statistics))
    result = float(mean.means()["var"][0])
    assert again.means()["var"][0] == result
    # What is below 2^-64 is left out.
    assert max(0.0, np.float32(min(values)) - 1e-18) <= result <= max(values)


def test_add_does_not_round_before_the_fixed_point():
    # 3 * float32(0.1) needs more than 24 bits; in float32 it would round to 0.3 exactly as nobody sent it.
    tenth, back = np.float32(0.1), np.float32(-0.3)
    means = mean_of([({"a": array(tenth)}, 3), ({"a": array(back)}, 1)], capacity=4)
    exact = (3 * Fraction(float(tenth)) + Fraction(float(back))) / 4
    assert exact != 0
    assert abs(Fraction(float(means["a"][0])) - exact) <= Fraction(2, 2 * 2**SCALE_BITS)


@settings(max_examples=60, deadline=None)
@given(st.lists(update, max_size=8), st.randoms(use_true_random=False))
def test_means_are_the_same_bits_in_every_order(updates, order):
    capacity = max(1, sum(weight for _, weight in updates))
    shuffled = list(updates)
    order.shuffle(shuffled)
    first, second = mean_of(updates, capacity), mean_of(shuffled, capacity)
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(update, min_size=1, max_size=8), st.data())
def test_means_do_not_depend_on_how_tensors_are_grouped(updates, data):
    """An update that is counted tensor by tensor, others in between, gives the same bits."""
    capacity = sum(weight for _, weight in updates)
    pieces = [({name: delta}, weight) for deltas, weight in updates for name, delta in deltas.items()]
    whole, split = mean_of(updates, capacity), mean_of(data.draw(st.permutations(pieces)), capacity)
    assert {name: value.tobytes() for name, value in whole.items()} == {
        name: value.tobytes() for name, value in split.items()
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, st.integers(1, 10**6)), min_size=1, max_size=10), st.integers(1, 64))
def test_means_keep_the_published_error_bound(pairs, headroom: int):
    total = sum(weight for _, weight in pairs)
    capacity_bits = (total * headroom - 1).bit_length()
    got = mean_of([({"a": array(value)}, weight) for value, weight in pairs], total * headroom)["a"][0]
    exact = sum(Fraction(float(np.float32(value))) * weight for value, weight in pairs) / total
    fixed_point = Fraction(len(pairs), 2) * Fraction(2) ** (capacity_bits - SCALE_BITS) / total
    to_float32 = (abs(exact) + fixed_point) * Fraction(1, 2**24) * (1 + Fraction(1, 2**20)) + Fraction(1, 2**149)
    assert abs(Fraction(float(got)) - exact) <= fixed_point + to_float32


def test_means_hold_the_largest_deltas_at_full_capacity():
    updates = [({"a": array(MAX_ABS_DELTA, -MAX_ABS_DELTA)}, 1 << 20)] * 16
    assert mean_of(updates, capacity=1 << 24)["a"].tolist() == [MAX_ABS_DELTA, -MAX_ABS_DELTA]


def test_means_cancel_the_largest_deltas_exactly():
    big, small = array(MAX_ABS_DELTA), array(2.0**-10)
    updates = [({"a": big}, 1), ({"a": small}, 2), ({"a": -big}, 1)]
    assert mean_of(updates, capacity=4)["a"].tolist() == [2.0**-11]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_073])
def test_means_are_right_at_block_boundaries(size: int):
    delta = np.arange(size, dtype=np.float32)
    means = mean_of([({"a": delta}, 1), ({"a": 3 * delta}, 1)], capacity=2)
    assert np.array_equal(means["a"], 2 * delta)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)])
def test_means_keep_shapes(shape: tuple[int, ...]):
    means = mean_of([({"a": np.ones(shape, dtype=np.float32)}, 1)], capacity=1)
    assert isinstance(means["a"], np.ndarray)
    assert means["a"].shape == shape


def test_add_takes_arrays_that_are_not_contiguous():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert mean_of([({"a": turned}, 1)], capacity=1)["a"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_add_does_not_change_what_it_is_given():
    delta = array(1.5, 2.5)
    mean = LayerwiseMean(4)
    mean.add({"a": delta}, 2)
    mean.add({"a": delta}, 2)
    assert delta.tolist() == [1.5, 2.5]


def test_add_refuses_weights_over_the_capacity():
    mean = LayerwiseMean(4)
    mean.add({"a": array(1.0)}, 3)
    with pytest.raises(ValueError, match="sum to 5, over the capacity of 4"):
        mean.add({"a": array(1.0)}, 2)


def test_add_leaves_no_trace_of_a_refused_update():
    mean = LayerwiseMean(4)
    mean.add({"b": array(1.0)}, 3)
    with pytest.raises(ValueError, match="weights of b"):
        mean.add({"a": array(9.0), "b": array(9.0)}, 2)
    with pytest.raises(ValueError, match="shape"):
        mean.add({"a": array(9.0), "b": array(9.0, 9.0)}, 1)
    assert {name: value.tolist() for name, value in mean.means().items()} == {"b": [1.0]}


@pytest.mark.parametrize("weight", [0, -1])
def test_add_refuses_a_weight_that_is_not_positive(weight: int):
    with pytest.raises(ValueError, match="weight must be at least 1"):
        LayerwiseMean(4).add({}, weight)


def test_mean_refuses_a_capacity_of_nothing():
    with pytest.raises(ValueError, match="weight_capacity must be at least 1"):
        LayerwiseMean(0)


def whole(capacity: int) -> LayerwiseMean:
    return LayerwiseMean(capacity, {"w": (2, 3)})


def test_means_average_each_element_over_the_blocks_that_reach_it():
    """HeteroFL's nested aggregation: the inner block over both devices, the rest over the wide one."""
    mean = whole(4)
    mean.add({"w": np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)}, 3)
    mean.add({"w": np.array([[5, 6]], dtype=np.float32)}, 1)
    assert mean.means()["w"].tolist() == [[2, 3, 3], [4, 5, 6]]
    assert mean.weight_of("w") == 4
    assert mean.unsent("w") is None


def test_means_are_zero_where_no_block_reaches():
    mean = whole(2)
    mean.add({"w": np.array([[4, 6]], dtype=np.float32)}, 1)
    mean.add({"w": np.array([[2], [8]], dtype=np.float32)}, 1)
    assert mean.means()["w"].tolist() == [[3, 6, 0], [8, 0, 0]]
    unsent = mean.unsent("w")
    assert unsent is not None
    assert unsent.tolist() == [[False, False, True], [False, True, True]]


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (2,), (2, 3, 1), ()])
def test_add_refuses_what_is_no_leading_block(shape: tuple[int, ...]):
    mean = whole(4)
    with pytest.raises(ValueError, match="no leading block"):
        mean.add({"w": np.zeros(shape, dtype=np.float32)}, 1)
    assert mean.means() == {}


blocks = st.tuples(st.integers(1, 2), st.integers(1, 3)).flatmap(
    lambda shape: st.lists(finite, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda values: np.array(values, dtype=np.float32).reshape(shape)
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(blocks, finite, st.integers(1, 5000)), min_size=1, max_size=8), st.data())
def test_merge_gives_the_bits_of_one_mean(updates, data):
    """However devices are spread over partial sums, in whatever order these are merged."""
    capacity = sum(weight for _, _, weight in updates)
    parts = [whole(capacity) for _ in range(3)]
    together = whole(capacity)
    for block, scalar, weight in updates:
        deltas = {"w": block, "bias": np.array(scalar, dtype=np.float32)}
        together.add(deltas, weight)
        data.draw(st.sampled_from(parts)).add(deltas, weight)
    merged = whole(capacity)
    for part in data.draw(st.permutations(parts)):
        merged.merge(LayerwiseMean.from_arrays(part.arrays(), capacity, {"w": (2, 3)}))
    expected = together.means()
    assert {name: value.tobytes() for name, value in merged.means().items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert {name: merged.weight_of(name) for name in expected} == {name: together.weight_of(name) for name in expected}


def test_merge_refuses_another_scale():
    with pytest.raises(ValueError, match="capacity 8 cannot be added to sums of capacity 4"):
        LayerwiseMean(4).merge(LayerwiseMean(8))


def test_merge_leaves_no_trace_of_refused_sums():
    mean, other = LayerwiseMean(4), LayerwiseMean(4)
    mean.add({"b": array(1.0)}, 3)
    other.add({"a": array(1.0), "b": array(1.0)}, 2)
    with pytest.raises(ValueError, match="weights of b sum to 5"):
        mean.merge(other)
    assert mean.means().keys() == {"b"}


def test_arrays_are_the_sums_themselves():
    """Shared memory that holds them goes on being added to."""
    mean = LayerwiseMean(4)
    mean.add({"a": array(2.0)}, 1)
    arrays = mean.arrays()
    assert arrays.weights["a"].tolist() == [[1, 1]]
    LayerwiseMean.from_arrays(arrays, 4).add({"a": array(4.0)}, 1)
    assert mean.arrays().sums["a"] is arrays.sums["a"]
    assert arrays.sums["a"].tolist() == [6 << (SCALE_BITS - 2)]
