import numpy as np
import pytest

from fedlp_edge.core.algorithm.aggregation import LayerwiseMean
from fedlp_edge.core.algorithm.plausibility import squared_norm
from fedlp_edge.core.algorithm.scaled_integers import BLOCK, ScaledIntegers, float_blocks, widened

LEVELS = np.array([[-128, 0], [1, 127]], np.int8)
SCALE = np.float32(0.3)


def many(scale: np.float32 = SCALE) -> ScaledIntegers:
    """A tensor of three blocks, the last of which is short."""
    levels = np.arange(2 * BLOCK + 6).astype(np.int8).reshape(2, -1)
    return ScaledIntegers(levels, scale)


def test_values_are_the_products_in_float32():
    values = widened(ScaledIntegers(LEVELS, np.float32(0.5)))

    assert values.tolist() == [[-64.0, 0.0], [0.5, 63.5]]
    assert (values.dtype, values.flags.writeable) == (np.float32, False)
    assert widened(many()).tobytes() == np.multiply(many()._levels, SCALE, dtype=np.float32).tobytes()


def test_float32_is_not_copied():
    array = np.ones((2, 3), np.float32)

    assert widened(array) is array
    assert all(np.shares_memory(block, array) for block in float_blocks(array))


def test_blocks_are_all_values_in_order():
    assert [block.size for block in float_blocks(many())] == [BLOCK, BLOCK, 6]
    assert np.concatenate([block.copy() for block in float_blocks(many())]).tolist() == widened(many()).ravel().tolist()


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_scalars_and_empty_tensors_have_a_shape(shape: tuple[int, ...]):
    values = ScaledIntegers(np.ones(shape, np.int8), SCALE)

    assert values.shape == widened(values).shape == shape
    assert sum(block.size for block in float_blocks(values)) == np.ones(shape).size


@pytest.mark.parametrize("scale", [1e-42, 2.9e-13, 0.3, 10.6, 10.7, 5000.0])
def test_a_sum_has_the_bits_that_float32_leads_to(scale: float):
    """Up to 2^51 counts, which 128 times 10.66 is here, they are rounded in another way than beyond that."""
    sums = []
    for values in (many(np.float32(scale)), widened(many(np.float32(scale)))):
        mean = LayerwiseMean(8)
        mean.add({"w": values}, 3)
        mean.add({"w": widened(many())}, 2)
        sums.append(mean.arrays().sums["w"].tobytes())

    assert sums[0] == sums[1]


def test_halves_are_rounded_to_even_integers_in_a_sum():
    halves = ScaledIntegers(np.array([-3, -1, 1, 3, 5], np.int8), np.float32(2.0**-43))
    mean = LayerwiseMean(1)
    mean.add({"w": halves}, 1)

    assert mean.arrays().sums["w"].tolist() == [-2, 0, 0, 2, 2]


@pytest.mark.parametrize("scale", [1e-30, 0.3, 1e30])
def test_a_norm_is_that_of_the_values(scale: float):
    values = many(np.float32(scale))

    assert squared_norm(values) == pytest.approx(float(np.sum(widened(values).astype(np.float64) ** 2)), rel=1e-6)


def test_a_leading_block_of_integers_counts_where_it_reaches():
    mean = LayerwiseMean(8, shapes={"w": (2, 3)})
    mean.add({"w": ScaledIntegers(LEVELS, np.float32(2))}, 1)

    assert mean.means()["w"].tolist() == [[-256.0, 0.0, 0.0], [2.0, 254.0, 0.0]]
