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
