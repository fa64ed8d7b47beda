"""ScaleFL: what a level holds, and what its exits learn from."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from benchmarks.rivals.scaled_exits import RATIOS, ScaledExits, SelfDistilled, digits
from fedlp_edge.learning.rng import seeded

CLASSES = 3


def model() -> ScaledExits:
    with seeded(1):
        built = digits(CLASSES)
    assert isinstance(built, ScaledExits)
    return built


def test_a_level_has_fewer_layers_with_fewer_channels() -> None:
    built = model()
    blueprint = built.blueprint()
    assert RATIOS[0] == 0.65
    first = blueprint.exchanged_by(1)
    assert [unit.id for unit in first] == ["L1", "H1"]
    # Of eight channels 5.2, rounded up; the classes are all there.
    assert first[0].tensors[0].shape == (6, 1, 3, 3)
    assert first[-1].tensors[-1].shape == (CLASSES,)
    assert [unit.id for unit in blueprint.exchanged_by(3)] == ["L1", "L2", "L3", "H1", "H2", "H3"]
    assert {t.name: t.shape for u in blueprint.exchanged_by(5) for t in u.tensors} == blueprint.nested_shapes
    costs = [cost.forward_macs for cost in blueprint.costs]
    assert costs == sorted(costs)


def test_all_exits_of_the_whole_width_are_judged() -> None:
    built = model()
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    built.measure([x])
    exits = built.exits(x)
    assert [tuple(logits.shape) for logits in exits] == [(6, CLASSES)] * 5
    assert torch.equal(built(x), exits[-1])


def test_exits_have_the_gradients_of_the_papers_objective() -> None:
    submodel = model().submodel(3)
    assert isinstance(submodel, SelfDistilled)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    submodel.train()
    torch.stack([functional.cross_entropy(logits, y) for logits in submodel.exits(x)]).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    found = {name: parameter.grad for name, parameter in submodel.named_parameters()}

    submodel.zero_grad()
    logits = super(SelfDistilled, submodel).exits(x)
    teacher = (logits[-1].detach() / 3).softmax(-1)
    loss = torch.zeros(())
    for number, exit in enumerate(logits, start=1):
        divergence = functional.kl_div((exit / 3).log_softmax(-1), teacher, reduction="batchmean")
        distilled = 0.05 * 9 * divergence if number < 3 else 0.0
        loss = loss + number / 6 * (functional.cross_entropy(exit, y) + distilled)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, parameter in submodel.named_parameters():
        assert found[name] is not None
        assert parameter.grad == pytest.approx(found[name], abs=1e-6), name
