"""One round of local training."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.augment_settings import AugmentSettings, RandomCrop, RandomHorizontalFlip
from fedlp_edge.core.settings import MemorySaving, TrainingSettings
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.evaluation import evaluate
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.training.loop import DivergedError, train_round
from fedlp_edge.learning.training.optimizers import make_optimizer

CPU = torch.device("cpu")


def small_net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(512, 10),
        )


def points(x: list[list[float]], y: list[int]) -> Dataset:
    return Dataset.of_tensor(torch.tensor(x), torch.tensor(y), ("a", "b"), scale=1.0, mean=(0.0,), std=(1.0,))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_train_round_makes_the_steps_of_plain_sgd() -> None:
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    outcome = train_round(
        model, points([[1.0], [1.0]], [0, 1]), TrainingSettings(batch_size=2, lr=1.0, momentum=0.0), seed=0, device=CPU
    )
    # Both classes are equally likely and equally frequent: the gradient is zero and the loss is ln 2.
    assert outcome.loss == pytest.approx(np.log(2))
    assert model.weight.tolist() == [[0.0], [0.0]]
    train_round(
        model, points([[1.0], [1.0]], [0, 0]), TrainingSettings(batch_size=2, lr=1.0, momentum=0.0), seed=0, device=CPU
    )
    assert model.weight.tolist() == [[0.5], [-0.5]]
    assert model.bias.tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    "training",
    [
        TrainingSettings(momentum=0.9, lr=0.05, weight_decay=0.01),
        TrainingSettings(momentum=0.0, lr=0.05),
        TrainingSettings(optimizer="adam", lr=0.01, weight_decay=0.01),
        TrainingSettings(optimizer="adamw", lr=0.01, weight_decay=0.1),
    ],
)
def test_optimizers_do_what_torch_optim_does(training: TrainingSettings) -> None:
    ours, theirs = small_net(), small_net()
    if training.optimizer == "sgd":
        reference: torch.optim.Optimizer = torch.optim.SGD(
            theirs.parameters(), training.lr, training.momentum, weight_decay=training.weight_decay
        )
    else:
        kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
        reference = kind(theirs.parameters(), training.lr, weight_decay=training.weight_decay)
    optimizer = make_optimizer(ours.parameters(), training)
    x, y = load_data("digits#limit=64").batch(slice(0, 64))
    for _ in range(5):
        for model, step in ((ours.eval(), optimizer.step), (theirs.eval(), reference.step)):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-7)


def test_train_round_learns_digits() -> None:
    model = small_net()
    train_round(model, load_data("digits"), TrainingSettings(epochs=3), seed=1, device=CPU)
    scores = evaluate(model, lambda x: [model(x)], (1,), load_data("digits", "test"))
    assert scores.accuracy[1] > 0.9
    assert scores.loss[1] < 0.5


def test_train_round_gives_the_same_bits_for_the_same_seed() -> None:
    data = load_data("digits#limit=200")
    ends = []
    for seed in (7, 7, 8):
        model = small_net()
        train_round(model, data, TrainingSettings(epochs=2), seed=seed, device=CPU)
        ends.append(values(model))
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])
    assert not all(ends[0][name].equal(ends[2][name]) for name in ends[0])


def test_train_round_changes_only_what_is_trainable() -> None:
    model = small_net()
    before = values(model)
    train_round(model, load_data("digits#limit=64"), TrainingSettings(), seed=0, device=CPU, trainable={"5.weight"})
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {"5.weight"}
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_train_round_keeps_what_the_user_froze() -> None:
    model = small_net()
    model[0].requires_grad_(False)
    before = values(model)
    train_round(model, load_data("digits#limit=64"), TrainingSettings(), seed=0, device=CPU)
    assert model[0].weight.equal(before["0.weight"])
    assert not model[0].weight.requires_grad


def test_train_round_with_nothing_trainable_reports_the_loss() -> None:
    model = small_net()
    outcome = train_round(
        model, load_data("digits#limit=64"), TrainingSettings(), seed=0, device=CPU, trainable=frozenset()
    )
    assert outcome.samples == 64
    assert outcome.loss > 0


def test_train_round_says_what_to_do_when_it_diverges() -> None:
    with pytest.raises(DivergedError, match=r"lower \[training\] lr"):
        train_round(small_net(), load_data("digits"), TrainingSettings(lr=1e38), seed=0, device=CPU)


def test_train_round_says_how_many_samples_it_saw() -> None:
    outcome = train_round(small_net(), load_data("digits#limit=50"), TrainingSettings(epochs=3), seed=0, device=CPU)
    assert (outcome.samples, outcome.seen) == (50, 150)


def test_train_round_stops_when_its_time_is_up_but_trains_a_batch() -> None:
    model = small_net()
    before = values(model)
    settings = TrainingSettings(epochs=3, batch_size=16)
    outcome = train_round(model, load_data("digits#limit=50"), settings, seed=0, device=CPU, budget=0.0)
    assert (outcome.samples, outcome.seen) == (16, 16)
    assert outcome.loss > 0
    assert not model[0].weight.equal(before["0.weight"])


def test_train_round_varies_samples_alike_for_one_seed_whatever_the_micro_batch() -> None:
    data = load_data("digits#limit=40")
    seen: dict[tuple[int, int], list[Tensor]] = {}

    class Records(nn.Module):
        def __init__(self, key: tuple[int, int]) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
            self.key = key

        def forward(self, x: Tensor) -> Tensor:
            seen.setdefault(self.key, []).append(x.clone())
            return self.inner(x)

    augment = AugmentSettings(transforms=(RandomCrop(padding=1), RandomHorizontalFlip()))
    for seed, micro_batch in ((1, 0), (1, 3), (2, 0)):
        training = TrainingSettings(epochs=2, memory=MemorySaving(micro_batch=micro_batch), augment=augment)
        train_round(Records((seed, micro_batch)), data, training, seed=seed, device=CPU)
    first, parts, other = (torch.cat(batches) for batches in seen.values())
    assert first.equal(parts)
    assert not first.equal(other)
    plain = data.batch(slice(0, 40))[0]
    assert not first[:40].sort(dim=0).values.equal(plain.sort(dim=0).values)


def test_train_round_varies_samples_without_changing_what_else_is_drawn() -> None:
    data = load_data("digits#limit=40")
    ends = []
    for augment in (AugmentSettings(), AugmentSettings(transforms=(RandomHorizontalFlip(p=0.0),))):
        model = small_net()
        train_round(model, data, TrainingSettings(augment=augment), seed=3, device=CPU)
        ends.append(values(model))
    # The order of samples and the dropout are the same; the pictures differ by the rounding of their normalisation.
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-4, atol=1e-6)


def test_train_round_refuses_a_single_sample() -> None:
    with pytest.raises(DataError, match="two samples at least"):
        train_round(small_net(), load_data("digits#limit=1"), TrainingSettings(), seed=0, device=CPU)


def test_evaluate_counts_every_exit() -> None:
    data = points([[1.0], [1.0], [1.0]], [0, 0, 1])
    says_a, says_b = torch.tensor([5.0, -5.0]), torch.tensor([-5.0, 5.0])
    scores = evaluate(
        nn.Identity(), lambda x: [says_a.expand(len(x), 2), says_b.expand(len(x), 2)], (1, 3), data, batch_size=2
    )
    assert scores.accuracy == {1: pytest.approx(2 / 3), 3: pytest.approx(1 / 3)}
    assert scores.loss[1] == pytest.approx(10 / 3, abs=1e-3)


def test_evaluate_averages_the_logits_of_an_ensemble() -> None:
    data = points([[1.0], [1.0]], [0, 1])
    wrong_of_0, right_of_0 = torch.tensor([0.0, 1.0]), torch.tensor([3.0, 0.0])
    scores = evaluate(
        nn.Identity(), lambda x: [wrong_of_0.expand(len(x), 2), right_of_0.expand(len(x), 2)], (1, 2), data
    )
    assert {depth: metrics["accuracy"] for depth, metrics in scores.ensemble_metrics.items()} == {1: 0.5, 2: 0.5}
    assert scores.ensemble_loss[1] == scores.loss[1]
    # The mean of the logits is [1.5, 0.5].
    log_total = np.log(np.exp(1.5) + np.exp(0.5))
    assert scores.ensemble_loss[2] == pytest.approx(log_total - (1.5 + 0.5) / 2)


def test_train_round_trains_all_the_exits_that_a_submodel_holds() -> None:
    layered = partition(nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(4, 2)), torch.zeros(1, 1))
    for exits, trained in (("own", {"L1", "L2", "H2"}), ("all", {"L1", "L2", "H1", "H2"})):
        submodel = layered.submodel(2, exits=exits)
        before = values(submodel)
        train_round(submodel, points([[1.0], [2.0]], [0, 1]), TrainingSettings(), seed=0, device=CPU)
        changed = {name.partition(".")[0] for name, value in values(submodel).items() if not value.equal(before[name])}
        assert changed == trained


def test_evaluate_reports_no_loss_for_a_model_beyond_all_bounds() -> None:
    scores = evaluate(nn.Identity(), lambda x: [torch.full((len(x), 2), torch.nan)], (1,), points([[1.0]] * 2, [0, 1]))
    assert scores.loss[1] is None


def test_data_specifications_are_read_without_torch() -> None:
    modules = (
        "fedlp_edge.learning.data.spec.parsing, fedlp_edge.learning.data.public_datasets, "
        "fedlp_edge.learning.export.inference"
    )
    program = f"import sys, {modules}; "
    done = subprocess.run(
        [sys.executable, "-c", program + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
