"""Where a forward computation may be cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.partition.cut_points import is_derived, segments, state_of
from fedlp_edge.learning.partition.tracing import trace

SAMPLE = torch.zeros(1, 3)


class Branches(nn.Module):
    """Has two branches from the input to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) * self.two(x)


class Tied(nn.Module):
    """Uses the same weights at both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.middle = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.middle(self.shared(x)))


class Masked(nn.Module):
    """Hands a mask without gradients from the input to the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x > 0).float()
        return self.two(self.one(x) * mask)


def test_sequence_is_cut_between_all_of_its_calls() -> None:
    found = segments(trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), SAMPLE))
    assert [segment.has_weights for segment in found] == [True, False, True]
    for before, after in pairwise(found):
        assert before.result == after.source


def test_every_call_is_in_one_segment() -> None:
    traced = trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), SAMPLE)
    inside = [node for segment in segments(traced) for node in segment.nodes]
    assert inside == list(traced.graph.nodes)[1:]


def test_cut_inside_of_a_block_divides_it() -> None:
    block = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    found = segments(trace(nn.Sequential(block, nn.Linear(3, 2)), SAMPLE))
    assert [segment.divided for segment in found if segment.has_weights] == [(0, 0), (0, 1), (0, 0)]


def test_mask_is_handed_on_beside_the_feature() -> None:
    found = segments(trace(Masked(), SAMPLE))
    assert max(len(segment.result) for segment in found) == 2
    beside = [segment.result[1] for segment in found if len(segment.result) == 2]
    assert not any(node.meta["learns"] for node in beside)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Tied(), r"^Tied uses the same weights at both ends \(shared\.(weight|bias)\), so no cut separates them; "),
        (Branches(), "^Branches has no place where a single feature is all that is passed on: "),
    ],
)
def test_model_without_a_cut_point_is_refused(model: nn.Module, problem: str) -> None:
    with pytest.raises(PartitionError, match=problem):
        segments(trace(model, SAMPLE))


def test_state_of_a_node_is_what_it_reads() -> None:
    traced = trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), SAMPLE)
    used = {name for node in traced.graph.nodes for name in state_of(node, traced.holder)}
    assert used == {f"model.{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")}
    assert not any(is_derived(node) for node in traced.graph.nodes)
