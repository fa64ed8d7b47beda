"""Seeded blocks leave the random numbers around them as they are."""

from __future__ import annotations

import random

import numpy as np
import torch

from fedlp_edge.learning.rng import drawn_elsewhere, preserved, seeded


def test_equal_seeds_draw_equal_numbers_and_others_draw_others() -> None:
    drawn = []
    for seed in (1, 1, 2):
        with seeded(seed):
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_numbers_after_a_block_are_those_without_it() -> None:
    with seeded(7):
        wanted = torch.rand(2).tolist()
    with seeded(7):
        with seeded(1):
            torch.rand(5)
        with preserved(torch.device("cpu")):
            torch.rand(5)
        assert torch.rand(2).tolist() == wanted


def test_python_and_numpy_draw_by_the_seed_too_and_go_on_as_before() -> None:
    before = drawn_elsewhere()
    drawn = []
    for seed in (1, 1, 2**40):
        with seeded(seed):
            drawn.append((random.random(), float(np.random.rand())))
    with preserved(torch.device("cpu")):
        random.random()
        assert drawn_elsewhere() != before
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn_elsewhere() == before
