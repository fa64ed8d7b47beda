"""Why a model that its devices have learned judges no better than a guess: the causes that can be found by trying.

An accuracy at chance looks like a model that has learned nothing. Where the devices' own loss is low, it has, and
something between them and the test data is wrong.
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
"""Of the loss of a guess: devices below this have learned something."""

GAIN = 0.2
"""What another way to judge must add to the accuracy to be the cause."""

MOST = 0.9
"""Share of equal answers that is as good as one answer for everything."""

UNEVEN = 1.5
"""Times its even share from which a class in the majority explains one answer for everything."""

_SAMPLES = 2000
_BATCH = 256
_ENOUGH = 8

Logits = Callable[[Tensor], Tensor]


def at_chance(accuracy: float, data: Dataset) -> bool:
    """Whether an accuracy is what naming the most frequent class would reach, as far as so few samples can tell."""
    if len(data) < _ENOUGH:
        return False
    guess = float(data.y.bincount().max()) / len(data)
    return accuracy <= guess + 2 * math.sqrt(guess * (1 - guess) / len(data))


@torch.no_grad()
def doubt(
    model: nn.Module, logits: Logits, data: Dataset, accuracy: float, training_loss: float, names: Sequence[str]
) -> str:
    """What makes an accuracy at chance suspicious, with the cause that was found.

    Args:
        model: in evaluation; left as it was.
        logits: of the exit that was judged, [B, classes].
        data: the test data.
        accuracy: of that exit.
        training_loss: mean of the devices' own.
        names: of the classes; numbers where there are none.

    Returns:
        One line; empty if the accuracy is better than chance.
    """
    if not at_chance(accuracy, data):
        return ""
    kept = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:_SAMPLES].to(data.y.device)
    answers, classes = _answers(logits, data, kept)
    said = f"{100 * accuracy:.1f} % right is no better than a guess"
    majority = _majority(data.y[kept], answers, classes)
    if majority is not None:
        always, share = majority
        return (
            f"{said}: nearly every sample is answered with {listed([names[always]])}, the class of {100 * share:.0f} % "
            f"of the test data. Where devices have it as often, a loss of {training_loss:.2f} says perhaps that alone: "
            "give them more samples of the other classes, or set logit_adjustment = 1 in [training.objective]"
        )
    guess_loss = math.log(max(2, classes))
    if not math.isfinite(training_loss) or training_loss >= LOW_LOSS * guess_loss:
        return (
            f"{said}, and the devices have hardly learned their own samples (loss {training_loss:.2f}, a guess has "
            f"{guess_loss:.2f}): more rounds or epochs, or another [training] lr"
        )
    said = f"{said}, though the devices have learned their own samples (loss {training_loss:.2f})"
    return f"{said}: {_cause(model, logits, data, kept, answers, classes, accuracy, names)}"


def _cause(
    model: nn.Module,
    logits: Logits,
    data: Dataset,
    kept: Tensor,
    answers: Tensor,
    classes: int,
    accuracy: float,
    names: Sequence[str],
) -> str:
    truth = data.y[kept]
    fresh = _accuracy_with_fresh_statistics(model, logits, data, kept)
    if fresh is not None and fresh >= accuracy + GAIN:
        return (
            f"the running statistics of its batch norm are behind the weights; with those of the test data it has "
            f"{100 * fresh:.1f} %. Longer or more rounds, a smaller [training] lr, or a model with group norm help"
        )
    pairs, matched = _best_pairs(truth, answers, classes)
    swapped = [(true, given) for true, given in pairs if true != given]
    if swapped and matched >= accuracy + GAIN:
        called = [(listed([names[true]]), listed([names[given]])) for true, given in swapped[:3]]
        said = "; ".join(f"{true} is answered with {given}" for true, given in called)
        return (
            f"the class numbers of test data and devices differ ({said}); with these pairs {100 * matched:.1f} % are "
            "right. Name the classes alike everywhere, or state [model] class_names"
        )
    frequent = answers.bincount(minlength=classes)
    if float(frequent.max()) >= MOST * len(answers):
        always = listed([names[int(frequent.argmax())]])
        return (
            f"nearly every sample is answered with {always}. The test data may be prepared otherwise than the devices' "
            "(size, channels, scaling), or each device may have one class alone"
        )
    return "no cause was found; compare the test data with the devices' (labels, scaling, what is in the pictures)"


def _majority(truth: Tensor, answers: Tensor, classes: int) -> tuple[int, float] | None:
    """The class that nearly everything is answered with, and its share, if most samples are of it."""
    always = int(answers.bincount(minlength=classes).argmax())
    share = float((truth == always).float().mean())
    one_answer = float((answers == always).float().mean()) >= MOST
    return (always, share) if one_answer and 0.5 < share < 1 and share * classes >= UNEVEN else None


def _answers(logits: Logits, data: Dataset, kept: Tensor) -> tuple[Tensor, int]:
    given = [logits(data.batch(part)[0]) for part in torch.split(kept, _BATCH)]
    return torch.cat([batch.argmax(dim=1) for batch in given]), given[0].shape[1]


def _accuracy_with_fresh_statistics(model: nn.Module, logits: Logits, data: Dataset, kept: Tensor) -> float | None:
    """With the statistics of each batch instead of the running ones; None for a model that keeps none."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return None
    before = [copy.deepcopy(dict(norm.named_buffers(recurse=False))) for norm in norms]
    training = [norm.training for norm in norms]
    try:
        for norm in norms:
            norm.train()
        answers, _ = _answers(logits, data, kept)
    finally:
        for norm, values, was in zip(norms, before, training, strict=True):
            norm.train(was)
            for name, value in values.items():
                norm.get_buffer(name).copy_(value)
    return float((answers == data.y[kept]).float().mean())


def _best_pairs(truth: Tensor, answers: Tensor, classes: int) -> tuple[list[tuple[int, int]], float]:
    """One-to-one pairs of class and answer, the most frequent first, and the accuracy if these were right."""
    counts = torch.bincount(truth * classes + answers, minlength=classes * classes).reshape(classes, classes)
    pairs: list[tuple[int, int]] = []
    right = 0
    while int(counts.max()) > 0:
        true, given = divmod(int(counts.argmax()), classes)
        pairs.append((true, given))
        right += int(counts[true, given])
        counts[true, :] = counts[:, given] = -1
    return pairs, right / len(truth)
