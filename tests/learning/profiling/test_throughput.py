"""How fast a processor trains."""

from __future__ import annotations

import torch

from fedlp_edge.learning.profiling.throughput import training_macs_per_second

CPU = torch.device("cpu")


def test_rate_is_a_plausible_one() -> None:
    assert 1e7 < training_macs_per_second(CPU, seconds=0.0) < 1e15


def test_measurement_draws_no_random_numbers_of_the_caller() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    training_macs_per_second(CPU, seconds=0.0)
    assert torch.equal(torch.rand(1), expected)
