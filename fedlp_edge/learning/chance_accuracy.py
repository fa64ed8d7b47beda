"""This module finds out why the global model's accuracy on the test data is no better than chance.

If the training loss on the devices is high too, the model has learned nothing yet. If that loss is low, the model has
learned, and something differs between the devices and the test data: the module tries the usual causes one by one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fedlp_edge.core.device_data import listed
from fedlp_edge.learning.data.dataset import Dataset

LOW_LOSS = 0.5
"""Share of the loss of a uniform guess; a training loss below it shows that the devices have learned something."""

GAIN = 0.2
"""Accuracy that a correction must gain, as a share from 0 to 1, before its cause is reported."""

MAJORITY_SHARE = 0.9
"""Share of equal predictions from which the model counts as predicting one class for every sample."""

UNEVEN = 1.5
"""Ratio of a majority class's share to 1/classes from which its frequency explains that it is always predicted."""

_SAMPLES = 2000
_BATCH = 256
_ENOUGH = 8

Logits = Callable[[Tensor], Tensor]
"""Function from samples [B, ...] to logits [B, classes]."""


def is_at_chance(accuracy: float, data: Dataset) -> bool:
    """Tells whether an accuracy is no better than that of always predicting the most frequent class.

    The margin is two standard deviations of a binomial proportion. With fewer than 8 samples the answer is False.
    """
    if len(data) < _ENOUGH:
        return False
    guess = float(data.y.bincount().max()) / len(data)
    return accuracy <= guess + 2 * math.sqrt(guess * (1 - guess) / len(data))


@torch.no_grad()
def explain_chance_accuracy(
    model: nn.Module, logits: Logits, data: Dataset, accuracy: float, training_loss: float, names: Sequence[str]
) -> str:
    """Explains an accuracy at chance level to the user, with the most likely cause.

    Args:
        model: Model in evaluation mode; its values are unchanged afterwards.
        logits: Function from samples [B, ...] to the logits of the evaluated exit, [B, classes].
        data: Test data.
        accuracy: Accuracy of the evaluated exit, 0 to 1.
        training_loss: Mean training loss (cross-entropy) that the devices report.
        names: Class names by class number, or class numbers as text where classes have no names.

    Returns:
        One line of text; empty if the accuracy is better than chance.
    """
    if not is_at_chance(accuracy, data):
        return ""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:_SAMPLES].to(data.y.device)
    answers, classes = _predictions(logits, data, chosen)
    finding = f"{100 * accuracy:.1f} % right is no better than a guess"
    majority = _majority(data.y[chosen], answers, classes)
    if majority is not None:
        always, share = majority
        return (
            f"{finding}: nearly every sample is answered with {listed([names[always]])}, the class of "
            f"{100 * share:.0f} % of the test data. Where devices have it as often, a loss of {training_loss:.2f} "
            "says perhaps that alone: give them more samples of the other classes, "
            "or set logit_adjustment = 1 in [training.objective]"
        )
    guess_loss = math.log(max(2, classes))
    if not math.isfinite(training_loss) or training_loss >= LOW_LOSS * guess_loss:
        return (
            f"{finding}, and the devices have hardly learned their own samples (loss {training_loss:.2f}, a guess has "
            f"{guess_loss:.2f}): more rounds or epochs, or another [training] lr"
        )
    finding = f"{finding}, though the devices have learned their own samples (loss {training_loss:.2f})"
    return f"{finding}: {_cause(model, logits, data, chosen, answers, classes, accuracy, names)}"


def _cause(
    model: nn.Module,
    logits: Logits,
    data: Dataset,
    chosen: Tensor,
    answers: Tensor,
    classes: int,
    accuracy: float,
    names: Sequence[str],
) -> str:
    truth = data.y[chosen]
    fresh = _accuracy_with_fresh_statistics(model, logits, data, chosen)
    if fresh is not None and fresh >= accuracy + GAIN:
        return (
            f"the running statistics of its batch norm are behind the weights; with those of the test data it has "
            f"{100 * fresh:.1f} %. Longer or more rounds, a smaller [training] lr, or a model with group norm help"
        )
    pairs, matched = _best_pairs(truth, answers, classes)
    swapped = [(true, given) for true, given in pairs if true != given]
    if swapped and matched >= accuracy + GAIN:
        called = [(listed([names[true]]), listed([names[given]])) for true, given in swapped[:3]]
        swaps = "; ".join(f"{true} is answered with {given}" for true, given in called)
        return (
            f"the class numbers of test data and devices differ ({swaps}); with these pairs {100 * matched:.1f} % are "
            "right. Name the classes alike everywhere, or state [model] class_names"
        )
    frequent = answers.bincount(minlength=classes)
    if float(frequent.max()) >= MAJORITY_SHARE * len(answers):
        always = listed([names[int(frequent.argmax())]])
        return (
            f"nearly every sample is answered with {always}. The test data may be prepared otherwise than the devices' "
            "(size, channels, scaling), or each device may have one class alone"
        )
    return "no cause was found; compare the test data with the devices' (labels, scaling, what is in the pictures)"


def _majority(truth: Tensor, answers: Tensor, classes: int) -> tuple[int, float] | None:
    """Returns the class that is predicted for nearly all samples, with its share, if most samples are of that class."""
    always = int(answers.bincount(minlength=classes).argmax())
    share = float((truth == always).float().mean())
    one_answer = float((answers == always).float().mean()) >= MAJORITY_SHARE
    return (always, share) if one_answer and 0.5 < share < 1 and share * classes >= UNEVEN else None


def _predictions(logits: Logits, data: Dataset, chosen: Tensor) -> tuple[Tensor, int]:
    """Returns the predicted classes of the samples at the indices ``chosen``, [N], and the number of classes."""
    given = [logits(data.batch(part)[0]) for part in torch.split(chosen, _BATCH)]
    return torch.cat([batch.argmax(dim=1) for batch in given]), given[0].shape[1]


def _accuracy_with_fresh_statistics(model: nn.Module, logits: Logits, data: Dataset, chosen: Tensor) -> float | None:
    """Returns the accuracy with batch instead of running statistics; None for a model without batch normalisation."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return None
    before = [copy.deepcopy(dict(norm.named_buffers(recurse=False))) for norm in norms]
    training = [norm.training for norm in norms]
    try:
        for norm in norms:
            norm.train()
        answers, _ = _predictions(logits, data, chosen)
    finally:
        for norm, values, was in zip(norms, before, training, strict=True):
            norm.train(was)
            for name, value in values.items():
                norm.get_buffer(name).copy_(value)
    return float((answers == data.y[chosen]).float().mean())


def _best_pairs(truth: Tensor, answers: Tensor, classes: int) -> tuple[list[tuple[int, int]], float]:
    """Pairs each true class with one predicted class, most frequent pairs first, and returns the accuracy they give."""
    counts = torch.bincount(truth * classes + answers, minlength=classes * classes).reshape(classes, classes)
    pairs: list[tuple[int, int]] = []
    right = 0
    while int(counts.max()) > 0:
        true, given = divmod(int(counts.argmax()), classes)
        pairs.append((true, given))
        right += int(counts[true, given])
        counts[true, :] = counts[:, given] = -1
    return pairs, right / len(truth)
