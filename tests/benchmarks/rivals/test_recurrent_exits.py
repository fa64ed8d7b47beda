"""ReeFL: what a depth holds, what the shared exit sees, and what exits learn from each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.rivals.recurrent_exits import (
    RecurrentExits,
    RecurrentSubmodel,
    SharedExit,
    recurrent_exits,
    text,
)
from fedlp_edge.learning.rng import seeded

CLASSES = 3


def model() -> RecurrentExits:
    with seeded(1):
        built = text(CLASSES)
    assert isinstance(built, RecurrentExits)
    return built


def samples(count: int) -> Tensor:
    return torch.randint(0, 512, (count, 32), generator=torch.Generator().manual_seed(1)).float()


def test_every_depth_holds_the_one_exit() -> None:
    blueprint = model().blueprint()
    assert [unit.id for unit in blueprint.exchanged_by(1)] == ["L1", "H5"]
    assert [unit.id for unit in blueprint.exchanged_by(3)] == ["L1", "L2", "L3", "H5"]
    assert [unit.id for unit in blueprint.global_units] == ["L1", "L2", "L3", "L4", "L5", "H5"]
    first, second = blueprint.costs[:2]
    # 512 + 33 + 1 tokens, a block and the exit; a block more.
    assert first.parameters - second.parameters == -blueprint.by_id["L2"].parameters
    assert second.forward_macs > 2 * first.forward_macs  # the exit looks at two class tokens there


def test_a_device_computes_what_the_whole_model_does() -> None:
    built, x = model(), samples(2)
    whole = built.exits(x)
    assert [tuple(logits.shape) for logits in whole] == [(2, CLASSES)] * 5
    submodel = built.submodel(3)
    for found, expected in zip(submodel.exits(x), whole, strict=False):
        assert torch.equal(found, expected)
    assert torch.equal(submodel(x), whole[2])
    assert torch.equal(built(x, depth=2), whole[1])
    assert set(submodel.state_dict()) == {
        name for name in built.state_dict() if name.partition(".")[0] in ("L1", "L2", "L3", "H5")
    }


def test_the_class_token_goes_on_as_the_shared_exit_wrote_it() -> None:
    class Written(SharedExit):
        """Adds ten to the last class token, and answers with all that it saw."""

        def __init__(self) -> None:
            nn.Module.__init__(self)

        def forward(self, seen: list[Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return torch.cat(seen, dim=1), seen[-1] + 10

    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    x = torch.tensor([[[1.0], [5.0]]])
    exits = recurrent_exits([Doubled(), Doubled(), Doubled()], Written(), x)
    # The class token is 1, doubled 2, written 12, doubled 24, written 34, doubled 68; those before it are as written.
    assert [logits.tolist() for logits in exits] == [[[2.0]], [[12.0, 24.0]], [[12.0, 34.0, 68.0]]]


def gradients(submodel: RecurrentSubmodel, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    submodel.zero_grad()
    torch.stack([functional.cross_entropy(logits, y) for logits in submodel.exits(x)]).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {name: parameter.grad for name, parameter in submodel.named_parameters() if parameter.grad is not None}


def test_exits_learn_from_the_one_that_was_best_in_the_round() -> None:
    submodel = model().submodel(3)
    assert isinstance(submodel, RecurrentSubmodel)
    x, y = samples(6), torch.tensor([1, 1, 1, 1, 1, 2])
    other = torch.tensor([0, 0, 0, 0, 1, 1])
    submodel.train()
    with torch.no_grad():
        exits = submodel.exits(x)
    losses = [torch.stack([functional.cross_entropy(exit, labels) for exit in exits]) for labels in (y, other)]
    mean = 0.8 * 0.2 * losses[0] + 0.2 * losses[1]
    # The best exit of the second batch alone is another one than that of both.
    assert (int(losses[1].argmin()), int(mean.argmin())) == (2, 0)
    gradients(submodel, x, y)
    found = gradients(submodel, x, other)

    submodel.zero_grad()
    logits = submodel._logits(x)
    teacher = logits[int(mean.argmin())].detach().softmax(-1)
    loss = torch.zeros(())
    for exit in logits:
        divergence = functional.kl_div(exit.log_softmax(-1), teacher, reduction="batchmean")
        loss = loss + (functional.cross_entropy(exit, other) + divergence) / 3
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, parameter in submodel.named_parameters():
        assert parameter.grad == pytest.approx(found[name], abs=1e-6), name


def test_a_round_begins_without_the_losses_of_the_one_before() -> None:
    submodel = model().submodel(2)
    assert isinstance(submodel, RecurrentSubmodel)
    x, y = samples(4), torch.tensor([0, 1, 2, 0])
    submodel.train()
    first = gradients(submodel, x, y)
    gradients(submodel, x, torch.tensor([1, 2, 0, 1]))
    submodel.train()
    again = gradients(submodel, x, y)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert submodel._losses.max() < 1  # 0.2 of a loss of about log 3


def test_a_device_of_one_exit_distils_nothing() -> None:
    submodel = model().submodel(1)
    assert isinstance(submodel, RecurrentSubmodel)
    submodel.train()
    x, y = samples(2), torch.tensor([0, 1])
    found = gradients(submodel, x, y)
    submodel.zero_grad()
    functional.cross_entropy(submodel(x), y).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, parameter in submodel.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, found[name])
