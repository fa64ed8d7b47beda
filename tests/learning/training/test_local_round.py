"""From weights and samples to what a device sends, with numbers that can be worked out by hand.

Two equal samples of class 0 and equal logits give the gradient (-1/2, 1/2) for the logits; with a learning rate of 1,
everything before them changes by what that makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.blueprint import HeadMode, Unit
from fedlp_edge.core.settings import ObjectiveSettings, TrainingSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.state_values import TensorState
from fedlp_edge.learning.training.fallback import Execution
from fedlp_edge.learning.training.local_round import LocalRound, LocalTask, RoundResult, check_update
from fedlp_edge.learning.training.loop import DivergedError
from fedlp_edge.learning.zoo.prepared import prepare

CPU = torch.device("cpu")
ONE_STEP = TrainingSettings(lr=1.0, momentum=0.0, batch_size=2, epochs=1, compute="float32")
GLOBAL = {
    "L1.weight": torch.ones(2, 1),
    "L2.weight": torch.eye(2),
    "H1.weight": torch.eye(2),
    "H2.weight": torch.eye(2),
}


def linear(weight: Tensor, *, frozen: bool = False) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.load_state_dict({"weight": weight})
    return layer.requires_grad_(not frozen)


def two_layers(*, head: float = 7.0, head_mode: HeadMode = "shared", first: nn.Module | None = None) -> LayeredModel:
    """Layers with other values than the global ones, and a frozen classifier at the end."""
    layers = [("one", first or linear(torch.full((2, 1), 9.0))), ("two", linear(torch.full((2, 2), 9.0)))]
    heads = [("early", linear(head * torch.eye(2))), ("late", linear(torch.full((2, 2), 9.0), frozen=True))]
    return LayeredModel(layers, heads, torch.ones(1, 1), classes=2, head_mode=head_mode)


def samples(*x: float) -> Dataset:
    return Dataset.of_tensor(
        torch.tensor(x)[:, None], torch.zeros(len(x), dtype=torch.int64), ("a", "b"), 1.0, (0.0,), (1.0,)
    )


class Device:
    """A device with a model of two layers, and what it has sent.

    Attributes:
        sent: by tensor.
        units: in the order in which they were sent.
    """

    def __init__(self, model: LayeredModel | None = None, x: tuple[float, ...] = (1.0, 1.0)) -> None:
        self.sent: dict[str, Any] = {}
        self.units: list[str] = []
        self._model = model or two_layers()
        self._x = x

    def round(
        self,
        task: LocalTask,
        *,
        own: dict[str, Tensor] | None = None,
        global_values: dict[str, Tensor] | None = None,
        anchor: dict[str, Tensor] | None = None,
    ) -> LocalRound:
        return LocalRound(
            task,
            prepare(self._model.submodel(task.depth), self._model.blueprint("tiny"), CPU),
            samples(*self._x),
            CPU,
            global_state=TensorState(global_values or GLOBAL),
            device_state=None if own is None else TensorState(own),
            build=lambda seed: two_layers(head=float(seed), head_mode="personal"),
            anchor=None if anchor is None else TensorState(anchor),
        )

    def send(self, unit: Unit, update: dict[str, Tensor]) -> None:
        self.units.append(unit.id)
        self.sent |= {name: value.tolist() for name, value in update.items()}

    def train(self, task: LocalTask, **values: Any) -> RoundResult:
        return self.round(task, **values).run(Execution(), self.send)


def task(depth: int = 2, **changes: Any) -> LocalTask:
    sent = {f"L{number}": (f"L{number}.weight",) for number in range(1, depth + 1)}
    every: dict[str, Any] = {"depth": depth, "training": ONE_STEP, "sent": sent}
    return LocalTask(**every | changes)


def test_sends_the_changes_of_weights_unit_by_unit() -> None:
    device = Device()
    result = device.train(task())
    assert device.units == ["L1", "L2"]
    assert device.sent == {"L1.weight": [[0.5], [-0.5]], "L2.weight": [[0.5, 0.5], [-0.5, -0.5]]}
    assert result.outcome.loss == pytest.approx(0.6931, abs=1e-4)  # ln 2, a guess between two classes
    assert (result.outcome.samples, result.used, result.failed_attempts) == (2, Execution(), ())


def test_proximal_term_pulls_towards_an_anchor_and_without_one_to_the_start() -> None:
    pulled = msgspec.structs.replace(ONE_STEP, objective=ObjectiveSettings(proximal=0.25))
    device = Device()
    device.train(task(training=pulled))
    assert device.sent["L1.weight"] == [[0.5], [-0.5]]
    anchor = {"L1.weight": torch.tensor([[3.0], [0.0]]), "L2.weight": torch.eye(2)}
    device.train(task(training=pulled), anchor=anchor)
    # The gradients (-1/2, 1/2) and 1/4 of what lies between (1, 1) and (3, 0).
    assert device.sent == {"L1.weight": [[1.0], [-0.75]], "L2.weight": [[0.5, 0.5], [-0.5, -0.5]]}


def test_sends_what_is_asked_for_alone_and_never_a_constant() -> None:
    device = Device()
    device.train(task(sent={"L2": ("L2.weight",)}))
    assert device.units == ["L2"]
    with pytest.raises(ModelError, match=r"depth 2 exchanges no tensor H2\.weight"):
        device.round(task(sent={"H2": ("H2.weight",)}))


def test_trains_with_the_global_constants() -> None:
    """The frozen classifier doubles the logits, and so the gradient before it."""
    device = Device()
    device.train(task(), global_values=GLOBAL | {"H2.weight": 2 * torch.eye(2)})
    assert device.sent["L1.weight"] == [[1.0], [-1.0]]


def test_sends_the_values_of_statistics() -> None:
    """A running mean goes a tenth of the way from 1 to 2, and a running variance from 1 to 2."""
    first = nn.Sequential(nn.BatchNorm1d(1, affine=False), linear(torch.zeros(2, 1)))
    device = Device(two_layers(first=first), x=(1.0, 3.0))
    values = GLOBAL | {"L1.0.running_mean": torch.ones(1), "L1.0.running_var": torch.ones(1)}
    values["L1.1.weight"] = values.pop("L1.weight")
    sent = {"L1": ("L1.0.running_mean", "L1.0.running_var")}
    device.train(task(depth=1, sent=sent), global_values=values)
    assert device.sent == {
        "L1.0.running_mean": [pytest.approx(1.1)],
        "L1.0.running_var": [pytest.approx(1.1)],
    }


def test_reused_unit_starts_from_the_device_and_is_sent_as_the_change_of_all_its_rounds() -> None:
    device = Device()
    local_round = device.round(task(withheld=("L1",), reused=("L1",)), own={"L1.weight": torch.full((2, 1), 3.0)})
    local_round.run(Execution(), device.send)
    assert device.sent["L1.weight"] == [[2.5], [1.5]]  # 3 instead of 1, and this round's step
    assert device.sent["L2.weight"] == [[1.5, 1.5], [-1.5, -1.5]]
    assert {name: value.tolist() for name, value in local_round.withheld_values().items()} == {
        "L1.weight": [[3.5], [2.5]]
    }


def test_personal_head_is_drawn_from_its_seed_and_stays_on_the_device() -> None:
    device = Device(two_layers(head_mode="personal"))
    local_round = device.round(task(depth=1, withheld=("H1",), head_seed=4))
    local_round.run(Execution(), device.send)
    assert device.sent == {"L1.weight": [[2.0], [-2.0]]}  # through a head of four times the unit
    (head,) = local_round.withheld_values().items()
    assert (head[0], head[1].tolist()) == ("H1.weight", [[4.5, 0.5], [-0.5, 3.5]])


def test_personal_head_of_an_earlier_round_is_reused() -> None:
    device = Device(two_layers(head_mode="personal"))
    device.train(task(depth=1, reused=("H1",), head_seed=4), own={"H1.weight": 2 * torch.eye(2)})
    assert device.sent == {"L1.weight": [[1.0], [-1.0]]}


def test_frozen_is_what_is_neither_sent_nor_withheld() -> None:
    """The second step of the second layer tells whether the first has moved in the first step."""
    device = Device()
    two_steps = TrainingSettings(lr=1.0, momentum=0.0, batch_size=2, epochs=2, compute="float32")
    second: dict[str, Any] = {"training": two_steps, "sent": {"L2": ("L2.weight",)}, "freeze": True}
    device.train(task(**second))
    assert device.sent["L2.weight"][0] == pytest.approx([0.6192, 0.6192], abs=1e-4)
    device.train(task(**second, withheld=("L1",)))
    assert device.sent["L2.weight"][0] == pytest.approx([0.5711, 0.5237], abs=1e-4)


def test_failed_way_is_followed_by_the_same_round_in_a_plainer_one() -> None:
    device = Device(two_layers(head_mode="personal"))
    tried = []

    @contextmanager
    def within(execution: Execution) -> Iterator[None]:
        tried.append(execution.compute)
        yield
        if execution.compute != "float32":
            raise RuntimeError("no such kernel")  # after everything was sent

    local_round = device.round(task(depth=1, head_seed=4))
    result = local_round.run(Execution("float32-channels-last"), device.send, within=within)
    assert tried == ["float32-channels-last", "float32"]
    assert [failed.reason for failed in result.failed_attempts] == ["RuntimeError: no such kernel"]
    assert device.units == ["L1", "L1"]
    assert device.sent == {"L1.weight": [[2.0], [-2.0]]}


def test_update_that_is_no_number_or_has_run_away_is_not_sent() -> None:
    with pytest.raises(DivergedError):
        Device().train(task(training=TrainingSettings(lr=1e38, momentum=0.0, batch_size=2, compute="float32")))
    with pytest.raises(DivergedError, match="the loss is no longer a number"):
        check_update({"w": torch.tensor([1.0, float("nan")])}, ())
    with pytest.raises(DivergedError, match=r"w changed by 1\.0e\+30 in one round"):
        check_update({"w": torch.tensor([-1e30])}, ())
    check_update({"mean": torch.tensor([1e30]), "empty": torch.zeros(0)}, {"mean"})


def test_judges_what_it_starts_from_and_trains_as_if_it_had_not() -> None:
    judged, plain = Device(), Device()
    local_round = judged.round(task())
    found = local_round.judge(samples(1.0, -1.0, 3.0), batch_size=2)
    assert set(found) == {2}
    # Equal logits for two classes: a guess, which takes the first class, that all samples are of.
    assert found[2].samples == 3
    assert found[2].sums["correct"] == (3.0, 0.0)
    assert found[2].sums["loss"][0] / 3 == pytest.approx(0.6931, abs=1e-4)
    assert local_round.judge(samples(1.0, -1.0, 3.0), batch_size=1) == found

    local_round.run(Execution(), judged.send)
    plain.train(task())
    assert judged.sent == plain.sent


def test_judges_every_exit_that_it_holds() -> None:
    model = two_layers()
    model.exit_mode = "all"
    sent = {"L1": ("L1.weight",)}
    assert set(Device(model).round(task(sent=sent)).judge(samples(1.0), batch_size=1)) == {1, 2}


def test_judges_its_own_head() -> None:
    device = Device(two_layers(head_mode="personal"))
    own = {"H1.weight": torch.tensor([[0.0, 0.0], [5.0, 0.0]])}
    found = device.round(task(depth=1, reused=("H1",)), own=own).judge(samples(1.0), batch_size=1)
    assert found[1].sums["correct"] == (0.0, 0.0)  # this head answers the second class
    assert found[1].sums["loss"] == (pytest.approx(5.0067, abs=1e-4),)


def test_measures_statistics_for_the_trained_weights_where_nobody_else_can() -> None:
    """Of 32 samples 1 and 3: mean 2 and variance 1, whatever the momentum; Bessel's correction makes it 32/31."""
    first = nn.Sequential(nn.BatchNorm1d(1, affine=False), linear(torch.zeros(2, 1)))
    device = Device(two_layers(first=first), x=(1.0, 3.0) * 16)
    values = GLOBAL | {"L1.0.running_mean": torch.ones(1), "L1.0.running_var": torch.ones(1)}
    values["L1.1.weight"] = values.pop("L1.weight")
    sent = {"L1": ("L1.0.running_mean", "L1.0.running_var")}
    device.train(task(depth=1, sent=sent, fresh_statistics=True), global_values=values)
    assert device.sent == {
        "L1.0.running_mean": [pytest.approx(2.0)],
        "L1.0.running_var": [pytest.approx(32 / 31)],
    }


def test_judges_by_the_mean_of_its_exits_where_files_answer_with_it() -> None:
    model = two_layers()
    model.exit_mode = "all"
    # The first exit answers the second class and is sure of it, the last one answers the first class.
    values = GLOBAL | {
        "H1.weight": torch.tensor([[0.0, 0.0], [9.0, 0.0]]),
        "H2.weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
    }
    found = {
        answer: Device(model)
        .round(task(sent={"L1": ("L1.weight",)}, answer=answer), global_values=values)
        .judge(samples(1.0), batch_size=1)
        for answer in ("exit", "mean")
    }
    assert [found["exit"][depth].sums["correct"][0] for depth in (1, 2)] == [0.0, 1.0]
    assert [found["mean"][depth].sums["correct"][0] for depth in (1, 2)] == [0.0, 0.0]
