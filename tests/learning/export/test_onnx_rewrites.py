from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fedlp_edge.learning.export.onnx_rewrites import RewrittenCalls

SHAPES = {1: (2, 3, 11), 2: (2, 3, 11, 9), 3: (2, 3, 5, 7, 4)}
SIZES = {1: [1, 4, 11, 20], 2: [1, (7, 4), (None, 3), (13, 2)], 3: [1, (2, 3, 4), (6, None, 1)]}


@pytest.mark.parametrize(("dimensions", "size"), [(d, size) for d in SHAPES for size in SIZES[d]])  # type: ignore[attr-defined]
def test_adaptive_max_pools_give_the_same_numbers(dimensions: int, size: object) -> None:
    pool = getattr(functional, f"adaptive_max_pool{dimensions}d")
    x = torch.randn(*SHAPES[dimensions], generator=torch.Generator().manual_seed(0))
    with RewrittenCalls():
        rewritten = pool(x, size)
    assert torch.equal(rewritten, pool(x, size))
    assert rewritten.grad_fn is None


@pytest.mark.parametrize("size", SIZES[3])
def test_adaptive_mean_in_three_dimensions_gives_the_same_numbers(size: object) -> None:
    x = torch.randn(*SHAPES[3], generator=torch.Generator().manual_seed(0))
    with RewrittenCalls():
        rewritten = functional.adaptive_avg_pool3d(x, size)  # type: ignore[arg-type]
    torch.testing.assert_close(rewritten, functional.adaptive_avg_pool3d(x, size))  # type: ignore[arg-type]


def test_pools_that_also_give_places_are_left_alone() -> None:
    with RewrittenCalls():
        _, places = functional.adaptive_max_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 2, return_indices=True)
    assert places.flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize("padding", [None, 0, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_equal_length_give_the_same_numbers(mode: str, padding: int | None) -> None:
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) - 2
    words = torch.tensor([[1, 2, 0, 0], [5, 5, 3, 4], [0, 0, 0, 0]])
    expected = functional.embedding_bag(words, table, mode=mode, padding_idx=padding)
    with RewrittenCalls():
        rewritten = functional.embedding_bag(words, table, mode=mode, padding_idx=padding)
    torch.testing.assert_close(rewritten, expected)


def test_weighted_bags_are_summed_and_bags_of_unequal_length_are_left_alone() -> None:
    table, words = torch.arange(6.0).reshape(3, 2), torch.tensor([[1, 2], [0, 2]])
    with RewrittenCalls():
        weighted = functional.embedding_bag(
            words, table, mode="sum", per_sample_weights=torch.tensor([[2.0, 1], [1, 0]])
        )
        unequal = functional.embedding_bag(words.flatten(), table, torch.tensor([0, 1]), mode="sum")
    assert weighted.tolist() == [[8.0, 11.0], [0.0, 1.0]]
    assert unequal.tolist() == [[2.0, 3.0], [8.0, 11.0]]


def test_data_of_a_tensor_are_a_view_of_it_and_new_data_are_copied_into_it() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 5.0]))
    memory = weight.data_ptr()
    with RewrittenCalls():
        weight.data.clamp_(max=3)
        assert weight.tolist() == [1, 3]
        weight.data = torch.tensor([7.0, 8.0])
    assert weight.tolist() == [7, 8]
    assert (weight.data_ptr(), weight.requires_grad) == (memory, True)
