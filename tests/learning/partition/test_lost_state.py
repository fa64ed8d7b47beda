"""What a model keeps from training outside of its state is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedlp_edge import partition
from fedlp_edge.learning.partition.lost_state import lost_after_training

SAMPLE = torch.zeros(2, 4)


class Centred(nn.Module):
    """Subtracts a running mean, kept in one of three places."""

    def __init__(self, place: str) -> None:
        super().__init__()
        if place == "attribute":
            self.mean = torch.zeros(4)
        else:
            self.register_buffer("mean", torch.zeros(4), persistent=place == "state")

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        return x - self.mean


class Keeps(nn.Module):
    """Keeps what each batch gave, for a look at it, and normalises by what it kept from this batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.mean = torch.zeros(1), torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.seen, self.mean = x, x.mean(1, keepdim=True)
        return x - self.mean


class Cools(nn.Module):
    """Counts its batches in training, and answers by the count, kept as a whole number, a number or an attribute."""

    def __init__(self, place: str) -> None:
        super().__init__()
        if place == "attribute":
            self.steps: float | Tensor = 0
        else:
            self.register_buffer("steps", torch.zeros((), dtype=getattr(torch, place)))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps = self.steps + 1
        return x * (1.0 + self.steps)


class FlagsFirst(nn.Module):
    """Shifts by the mean of the first batch that it sees, and notes down that it has seen one."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.shift, self.seen = nn.Parameter(torch.zeros(4)), nn.Buffer(torch.zeros((), dtype=kind))

    def forward(self, x: Tensor) -> Tensor:
        if not self.seen:
            with torch.no_grad():
                self.shift.copy_(x.mean(0) + 1)
            self.seen = torch.ones_like(self.seen)
        return x - self.shift


def blocks(first: nn.Module) -> list[tuple[str, nn.Module]]:
    return [("first", first), ("norm", nn.BatchNorm1d(4)), ("out", nn.Linear(4, 2))]


@pytest.mark.parametrize("place", ["attribute", "buffer"])
def test_a_running_mean_outside_of_the_state_is_lost(place: str) -> None:
    assert lost_after_training(blocks(Centred(place)), SAMPLE) == ("first.mean",)


@pytest.mark.parametrize("place", ["int64", "attribute"])
def test_a_count_that_is_not_exchanged_is_lost_and_the_counter_of_a_norm_is_none(place: str) -> None:
    assert lost_after_training(blocks(Cools(place)), SAMPLE) == ("first.steps",)


def test_a_note_of_the_first_batch_that_is_not_exchanged_is_lost() -> None:
    assert lost_after_training(blocks(FlagsFirst(torch.bool)), SAMPLE) == ("first.seen",)


@pytest.mark.parametrize(
    "first", [Centred("state"), Keeps(), nn.Dropout(0.5), Cools("float32"), FlagsFirst(torch.float32)]
)
def test_nothing_is_lost_of_the_state_nor_of_what_each_batch_sets(first: nn.Module) -> None:
    model = blocks(first)
    before = [value.clone() for _, module in model for value in module.state_dict().values()]
    assert lost_after_training(model, SAMPLE) == ()
    after = [value for _, module in model for value in module.state_dict().values()]
    assert all(value.equal(other) for value, other in zip(after, before, strict=True))


def test_a_model_that_fails_on_made_samples_loses_nothing() -> None:
    assert lost_after_training(blocks(Centred("buffer")), torch.zeros(2, 5)) == ()


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_lost_is_said_when_a_model_is_split(listed: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.centred, self.out = nn.Linear(4, 4), Centred("buffer"), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.centred(self.one(x)).relu())  # type: ignore[no-any-return]

    partition([Net()] if listed else Net(), SAMPLE)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith('training changes "{}centred.mean", by which the model answers'.format("0." * listed))
