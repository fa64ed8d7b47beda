"""Makes train steps: forward pass, loss, backward pass, update of the weights.

A small model on a CPU spends its time between operations rather than in them, so everything that can be done once per
round is done before the first train step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.memory.allocator import parts
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.model.tensor_kinds import keep_frozen
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.training.compute_modes import Compute
from fedlp_edge.learning.training.objectives import Objective, make_objective
from fedlp_edge.learning.training.optimizers import Optimizer, clip_gradients, make_optimizer


class TrainStep:
    """A function that makes one train step on a model when it is called.

    Args:
        model: Model in training mode.
        objective: Function to minimise.
        parameters: Parameters to train.
        optimizer: Optimizer of the parameters; with None, only BatchNorm statistics change.
        compute: Compute mode.
        micro_batch: Most samples of a micro-batch, whose gradients are added; 0 for the whole batch at once.
        clip_norm: Largest Euclidean norm of the gradient of the whole batch; 0 for no limit.

    Attributes:
        parameters: Parameters that are trained.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: list[nn.Parameter],
        optimizer: Optimizer | None,
        compute: Compute,
        micro_batch: int = 0,
        clip_norm: float = 0.0,
    ) -> None:
        self.parameters = parameters
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._compute = compute
        self._micro_batch = micro_batch
        self._clip_norm = clip_norm

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Makes one train step on a batch.

        Args:
            x: Batch of samples, [B, ...].
            y: Targets of the batch, [B] or [B, K].

        Returns:
            Loss before the train step, a scalar without a gradient.

        Raises:
            ValueError: The batch is empty.
        """
        total: Tensor | None = None
        for start, stop in parts(len(y), self._micro_batch):
            with self._compute.autocast(x.device):
                loss = self._objective(self._model, x[start:stop], y[start:stop])
            if stop - start < len(y):
                loss = loss * ((stop - start) / len(y))
            if self._optimizer is not None:
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total = loss.detach() if total is None else total + loss.detach()
        if self._optimizer is not None:
            if self._clip_norm:
                clip_gradients(self.parameters, self._clip_norm)
            self._optimizer.step()
        if total is None:
            raise ValueError("a step needs a sample")
        return total


@contextmanager
def train_steps(
    model: nn.Module,
    settings: TrainingSettings,
    labels: Tensor,
    compute: Compute,
    trainable: Collection[str] | None = None,
    *,
    fused: bool = True,
    task: LearningTask | None = None,
    anchor: Mapping[str, Tensor] | None = None,
) -> Iterator[TrainStep]:
    """Prepares a model for train steps with fresh optimizer state, and restores flags and layout of its parameters.

    Args:
        model: Model to train; put into training mode, except for its frozen norms. It has no gradients afterwards.
        settings: Optimizer, objective and memory saving.
        labels: Targets of all samples of the device, [N] or [N, K].
        compute: Compute mode.
        trainable: Names of the parameters to train; None for all that require a gradient.
        fused: Whether the optimizer may use fused kernels.
        task: What the model's outputs mean; None for classification.
        anchor: Values that the proximal term pulls parameters towards, by name, on the device of the model; a parameter
            that is not named is pulled towards the value that it has.

    Yields:
        The train step.
    """
    model.train()
    keep_frozen(model)
    if isinstance(model, Submodel):
        model.checkpointing = settings.memory.checkpointing
    with _only(model, trainable) as parameters, compute.prepared(model):
        optimizer = make_optimizer(parameters, settings, fused=fused) if parameters else None
        objective = make_objective(
            settings.objective,
            labels,
            parameters,
            label_smoothing=settings.label_smoothing,
            balance=settings.balance,
            task=task,
            anchor=_anchor_of(model, anchor) if anchor else None,
        )
        micro_batch = settings.memory.micro_batch
        yield TrainStep(model, objective, parameters, optimizer, compute, micro_batch, settings.clip_norm)


def _anchor_of(model: nn.Module, anchor: Mapping[str, Tensor]) -> list[Tensor]:
    """Returns what each parameter that is trained is pulled towards, in the order of the parameters."""
    return [anchor.get(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@contextmanager
def _only(model: nn.Module, trainable: Collection[str] | None) -> Iterator[list[nn.Parameter]]:
    """Freezes all parameters but those named, and afterwards restores the flags and deletes the gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and (trainable is None or name in trainable))
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        for parameter, flag in before:
            parameter.grad = None
            parameter.requires_grad_(flag)
