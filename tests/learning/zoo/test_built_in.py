"""The models that need no torchvision."""

from __future__ import annotations

import pytest
import torch

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.zoo.built_in import BUILT_IN, Builder, fedlp_cnn, fedlp_cnn_narrow, mlp, small_cnn


@pytest.mark.parametrize(
    ("build", "shape", "depths"),
    [(fedlp_cnn_narrow, (1, 8, 8), 5), (small_cnn, (3, 8, 8), 5), (small_cnn, (2, 8), 5), (mlp, (7,), 3)],
    ids=["fedlp-cnn-narrow", "small-cnn", "small-cnn of windows", "mlp"],
)
def test_every_exit_answers_for_every_class(build: Builder, shape: tuple[int, ...], depths: int) -> None:
    model = build(shape, 4, "shared", 1)
    assert (list(model.depths), model.input_shape, model.classes) == (list(range(1, depths + 1)), shape, 4)
    for depth in model.depths:
        assert model.eval()(torch.zeros(2, *shape), depth=depth).shape == (2, 4)


def test_same_seed_gives_the_same_weights() -> None:
    first, again, other = (mlp((3,), 2, "shared", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("build", "shape", "problem"),
    [
        (
            fedlp_cnn,
            (1, 4, 4),
            "fedlp-cnn halves its input 3 times and nothing would be left of 1x4x4; it needs at least 8x8",
        ),
        (fedlp_cnn_narrow, (5,), "fedlp-cnn-narrow takes images [channels, height, width], not 5; try mlp"),
        (
            small_cnn,
            (3, 3, 8),
            "small-cnn halves its input 2 times and nothing would be left of 3x3x8; it needs at least 4x4",
        ),
        (small_cnn, (2, 3), "small-cnn halves a window twice and nothing would be left of 2x3; try mlp"),
        (small_cnn, (9,), "small-cnn takes images [channels, height, width], not 9; try mlp"),
    ],
)
def test_input_that_is_too_small_or_no_picture_is_refused(build: Builder, shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(shape, 2, "shared", 0)
    assert str(caught.value) == problem


def test_table_has_every_model_by_its_name() -> None:
    assert list(BUILT_IN) == ["fedlp-cnn", "fedlp-cnn-narrow", "small-cnn", "mlp"]
