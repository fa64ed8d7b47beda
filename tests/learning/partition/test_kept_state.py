"""A model that is tried on made samples comes out as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedlp_edge import ModelSettings, build_model, partition
from fedlp_edge.learning.partition.kept_state import OwnState, left_as_they_were, modules_of


class FirstBatch(nn.Module):
    """Takes its scale from the first batch that it sees, as ActNorm and quantisers with learned steps do."""

    def __init__(self, flag: str = "float") -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        if flag == "attribute":
            self.seen: bool | Tensor = False
        else:
            self.register_buffer("seen", torch.zeros((), dtype={"float": torch.float32, "bool": torch.bool}[flag]))

    def forward(self, x: Tensor) -> Tensor:
        if not self.seen:
            with torch.no_grad():
                self.scale.copy_(x.abs().mean())
            self.seen = torch.ones_like(self.seen) if isinstance(self.seen, Tensor) else True
        return x * self.scale


class Net(nn.Module):
    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.one, self.first, self.out = nn.Linear(4, 4), first, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(self.one(x)).relu())  # type: ignore[no-any-return]


def make() -> nn.Module:
    return Net(FirstBatch())


@pytest.mark.parametrize("flag", ["float", "bool", "attribute"])
@pytest.mark.parametrize("listed", [True, False])
def test_splitting_is_not_the_first_batch_of_a_model(flag: str, listed: bool) -> None:
    first = FirstBatch(flag)
    layered = partition([nn.Linear(4, 4), first, nn.Linear(4, 2)] if listed else Net(first), torch.zeros(1, 4))
    assert (first.scale.item(), bool(first.seen)) == (1, False)
    layered(torch.ones(2, 4))
    assert bool(first.seen)


def test_a_note_of_the_first_batch_as_a_number_is_exchanged() -> None:
    layered = partition(Net(FirstBatch()), torch.zeros(1, 4))
    kinds = {tensor.name: tensor.kind for unit in layered.units for tensor in unit.tensors}
    assert kinds["L1.first.seen"] == "statistic"
    assert kinds["L1.first.scale"] == "trained"


@pytest.mark.parametrize("exit_heads", ["model", "pooled"])
def test_a_model_by_name_has_seen_no_batch_either(exit_heads: str) -> None:
    settings = ModelSettings(name=f"{__name__}:make", input=(4,), classes=2, exit_heads=exit_heads)  # type: ignore[arg-type]
    state = build_model(settings, seed=1, allow_models=None).state_dict()
    assert (state["L1.first.scale"].item(), state["L1.first.seen"].item()) == (1, 0)


def test_what_code_replaces_is_given_back() -> None:
    first = FirstBatch()
    first.kept = None  # type: ignore[assignment]
    scale, seen = first.scale, first.seen
    with left_as_they_were([first]):
        first.kept = torch.ones(2)  # type: ignore[assignment]
        first.seen = torch.ones(())
        first.scale.data = torch.full((1,), 7.0)
    assert first.scale is scale
    assert first.seen is seen
    assert (scale.tolist(), bool(seen), first.kept) == ([1], False, None)


def test_sizes_that_the_first_input_tells_stay() -> None:
    class Observer(nn.Module):
        """Keeps the least value of each column, as observers of quantisation do."""

        def __init__(self) -> None:
            super().__init__()
            self.least = nn.Buffer(torch.zeros(0))

        def forward(self, x: Tensor) -> Tensor:
            self.least.resize_(x.shape[1:]).copy_(x.detach().amin(0))
            return x

    layered = partition(Net(Observer()), torch.zeros(1, 4))
    held = [*layered.units[0].tensors, *layered.units[0].constants]
    assert {tensor.name: tensor.shape for tensor in held}["L1.first.least"] == (4,)
    assert layered.state_dict()["L1.first.least"].shape == (4,)


def count_rows() -> nn.Module:
    class Counts(nn.Module):
        """Counts its rows by a call that is recorded, not kept as a module."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
            self.register_buffer("rows", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.rows.add_(len(x))
            return self.out(self.one(x + 0 * self.rows))  # type: ignore[no-any-return]

    return Counts()


def test_what_recorded_calls_change_is_taken_back_as_well() -> None:
    settings = ModelSettings(name=f"{__name__}:count_rows", input=(4,), classes=2)
    model = build_model(settings, seed=1, allow_models=None)
    assert model.state_dict()["L1.rows"].item() == 0
    model(torch.zeros(3, 4))
    assert model.state_dict()["L1.rows"].item() == 3


def test_layers_of_torch_are_left_out() -> None:
    linear = nn.Linear(1, 1)
    state = OwnState([linear])
    nn.init.constant_(linear.weight, 7)
    state.restore()
    assert linear.weight.item() == 7


def test_modules_of_a_model_or_of_a_list_are_found() -> None:
    one = nn.Linear(1, 1)
    assert modules_of(one) == [one]
    assert modules_of([one, "two"]) == [one]
    assert modules_of("one") == []


def test_a_sparse_tensor_which_splitting_names_is_left_alone() -> None:
    module = nn.Module()
    module.register_buffer("ones", torch.ones(2, 2).to_sparse())
    with left_as_they_were([module]):
        pass
    assert module.ones.to_dense().tolist() == [[1, 1], [1, 1]]
