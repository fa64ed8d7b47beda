import numpy as np
import pytest

from fedlp_edge.core.algorithm import exact_sum


def total_of(*numbers: float, factor: float = 0.25) -> float:
    total = exact_sum.zeros((1,))
    for number in numbers:
        exact_sum.add(total, np.array([number], np.float32), factor)
    return float(exact_sum.value(total)[0])


@pytest.mark.parametrize("number", [0.0, 1.0, -3.5, 2.0**127, -(2.0**127), 2.0**-60, 1e9])
def test_a_number_comes_back_as_it_was(number):
    assert total_of(number) == 0.25 * np.float32(number)


def test_small_numbers_are_kept_beside_huge_ones():
    assert total_of(2.0**100, 1.0, -(2.0**100)) == 0.25


def test_what_is_below_the_last_limb_is_left_out():
    assert total_of(2.0**-70) == 0.0


def test_the_order_changes_no_bit():
    numbers = [float(np.float32(0.1) * 3**power) for power in range(-20, 40)]
    assert total_of(*numbers) == total_of(*reversed(numbers))


def test_a_number_without_dimensions_is_added():
    total = exact_sum.zeros(())
    exact_sum.add(total, np.array(1.5, np.float32), 0.5)
    assert float(exact_sum.value(total)) == 0.75
