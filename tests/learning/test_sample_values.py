"""Samples for models of which only the shape of the input is known."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from fedlp_edge.learning.sample_values import first_that_runs, token_sample, zeros_and_ones


def test_zeros_and_ones_differ_from_sample_to_sample_and_come_again() -> None:
    x = zeros_and_ones((2, 8))
    assert set(x.flatten().tolist()) == {0.0, 1.0}
    assert not torch.equal(x[0], x[1])
    assert torch.equal(x, zeros_and_ones((2, 8)))


def test_token_sample_is_more_than_padding() -> None:
    assert token_sample((5,)).tolist() == [[1, 0, 1, 0, 1]]


def test_runs_until_a_batch_is_taken_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def looked_up(batch: Tensor) -> float:
        print("code of a graph", file=sys.stderr)
        return [0.25, 0.5][int(batch)]

    assert first_that_runs(looked_up, [torch.tensor(7), torch.tensor(1)]) == 0.5
    assert first_that_runs(looked_up, [torch.tensor(7)]) is None
    assert capfd.readouterr().err == ""
