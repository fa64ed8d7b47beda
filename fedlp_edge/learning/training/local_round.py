"""This module does one round on one device, from the weights that it starts from and its samples to what it sends.

A real device and a simulated one do this with the same code. Where values come from (files, shared memory) and where
they go to (files, sums of the round) is the caller's affair, and so are limits of memory and time around it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA
from fedlp_edge.core.blueprint import Unit
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import held_out_scores
from fedlp_edge.learning.model.fresh_statistics import measure_statistics
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.model.state_values import OpenedState, State, TensorState, load_values, values_of
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.training import fallback
from fedlp_edge.learning.training.augment import import_transforms
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt
from fedlp_edge.learning.training.loop import DivergedError, TrainingOutcome, train_round
from fedlp_edge.learning.zoo.prepared import PreparedModel, state_names, tensor_names


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """What a device does in one round.

    Attributes:
        depth: Depth of the submodel that is trained.
        training: Epochs, batch size, optimizer, objective and the rest, with the step size of the round.
        sent: Names of the tensors that are sent, by unit id.
        withheld: Ids of the units whose values stay on the device after the round.
        reused: Ids of the units that start from values of the device itself instead of the global ones.
        freeze: Whether only what is sent, and what stays on the device, is trained.
        seed: Seed of the order of samples, of augmentation and of dropout.
        head_seed: Seed of the personal heads that the device does not have yet.
        fresh_statistics: Whether statistics of batch norms are measured for the trained weights before they are sent,
            for a coordinator that cannot measure them itself.
        learning_task: What the model's outputs mean; None for classification.
        answer: What exported models answer with, by which depths are judged.
    """

    depth: int
    training: TrainingSettings
    sent: Mapping[str, Collection[str]]
    withheld: Collection[str] = ()
    reused: Collection[str] = ()
    freeze: bool = False
    seed: int = 0
    head_seed: int = 0
    fresh_statistics: bool = False
    learning_task: LearningTask | None = None
    answer: AnswerMode = "exit"


SendUnit = Callable[[Unit, dict[str, Tensor]], None]
"""Takes what is sent of a unit: changes of weights and values of statistics, float32 on the CPU, by name. It may be the
model's own memory, which the next round overwrites."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """How a round went.

    Attributes:
        outcome: Outcome of the training that succeeded.
        used: The way in which it did.
        failed_attempts: Executions that failed before.
    """

    outcome: TrainingOutcome
    used: Execution
    failed_attempts: tuple[FailedAttempt, ...]


class LocalRound:
    """Trains a submodel on a device's samples and computes what the device sends.

    Args:
        task: Task of the round.
        prepared: The submodel of the task's depth, with any values.
        data: The device's samples.
        device: The processor that the submodel is on.
        global_state: Values of the units that the depth exchanges, constants included.
        device_state: Values that an earlier round left on the device; None if the task reuses no unit.
        build: Function that makes the whole model from a seed; called for personal heads that the device does not have
            yet.
        anchor: Values that the proximal term pulls exchanged weights towards, all of them; None for those that the
            round starts from.

    Attributes:
        data: Training data.

    Raises:
        ModelError: The task names a tensor that the depth does not exchange, or needs a package that is missing.
    """

    def __init__(
        self,
        task: LocalTask,
        prepared: PreparedModel,
        data: Dataset,
        device: torch.device,
        *,
        global_state: State,
        device_state: State | None,
        build: Callable[[int], nn.Module],
        anchor: State | None = None,
    ) -> None:
        self._task = task
        self._prepared = prepared
        self.data = data
        self._device = device
        self._global_state = global_state
        self._device_state = device_state
        self._anchor = anchor
        blueprint = prepared.blueprint
        self._exchanged = blueprint.exchanged_by(task.depth)
        self._personal = blueprint.personal_of(task.depth)
        self._sent = frozenset(name for names in task.sent.values() for name in names)
        if unknown := self._sent.difference(tensor_names(self._exchanged)):
            raise ModelError(f"depth {task.depth} exchanges no tensor {min(unknown)}")
        import_transforms(task.training.augment)
        # Drawn once, however often the round is tried.
        self._new_heads = self._draw_heads([unit for unit in self._personal if unit.id not in task.reused], build)

    def run(
        self,
        execution: Execution,
        send: SendUnit,
        *,
        within: Callable[[Execution], AbstractContextManager[None]] = lambda _: nullcontext(),
        until: float = math.inf,
        limited: bool = False,
    ) -> RoundResult:
        """Trains the round and sends its update, in a plainer way where the one that is asked for fails.

        Args:
            execution: The first way to try.
            send: Function that is called for every unit of which something is sent; again for the same units after a
                failed attempt.
            within: Context in which each try runs, such as a memory limit.
            until: Time after which no further batch is begun, as ``time.perf_counter`` counts.
            limited: Whether memory is limited, see `limits.is_out_of_memory`.

        Raises:
            Exception: Error of the last execution that was tried, see `fallback.train_with_fallbacks`.
        """

        def attempt(way: Execution) -> TrainingOutcome:
            with within(way):
                self.put_start_values()
                outcome = self._train(way, until)
                if self._task.fresh_statistics:
                    self._measure_statistics()
                self.send_update(send)
                return outcome

        return RoundResult(*fallback.train_with_fallbacks(execution, attempt, limited=limited))

    def judge(self, held_out: Dataset, batch_size: int) -> dict[int, HeldOutScores]:
        """Judges the model that the round starts from, the device's own heads included.

        Args:
            held_out: Samples that are never trained on.
            batch_size: Samples per forward pass.

        Returns:
            What models of the depths of its exits are worth, by depth.
        """
        task, model = self._task, cast("Submodel", self._prepared.model)
        depths = [task.depth] if self._prepared.blueprint.exits == "own" else list(range(1, task.depth + 1))
        learning_task = task.learning_task or Classification(self._prepared.blueprint.classes)
        self.put_start_values()
        return held_out_scores(model, depths, held_out, learning_task, self._device, batch_size, task.answer)

    def put_start_values(self) -> None:
        """Fills the submodel with what the round starts from, the same whenever it is called.

        Raises:
            ModelError: A value is missing or has another shape.
            StorageError: A state cannot be read.
        """
        model = self._prepared.model
        self._prepared.forget_rounds()
        load_values(model, TensorState(self._new_heads), self._new_heads)
        load_values(model, self._global_state, state_names(self._exchanged))
        if self._device_state is not None and self._task.reused:
            load_values(model, self._device_state, self._names_on_device(self._task.reused))

    def send_update(self, send: SendUnit) -> None:
        """Hands over what is sent, one unit after the other, so that an update never stands in memory as a whole.

        Raises:
            DivergedError: See `check_update`.
            ModelError: A value is missing in the global state.
            StorageError: The global state cannot be read.
        """
        statistics = self._prepared.blueprint.statistics
        with self._global_state.open() as start:
            for unit in self._exchanged:
                wanted = self._task.sent.get(unit.id, ())
                if names := [tensor.name for tensor in unit.tensors if tensor.name in wanted]:
                    send(unit, changes(values_of(self._prepared.model, names), start, statistics))

    def withheld_values(self) -> dict[str, Tensor]:
        """Values of the units that stay on the device, float32 on the CPU; perhaps the model's own memory."""
        return values_of(self._prepared.model, self._names_on_device(self._task.withheld))

    def _train(self, execution: Execution, until: float) -> TrainingOutcome:
        return train_round(
            self._prepared.model,
            self.data,
            execution.of(self._task.training),
            seed=self._task.seed,
            device=self._device,
            trainable=self._trainable() if self._task.freeze else None,
            fused=execution.fused,
            budget=None if math.isinf(until) else until - time.perf_counter(),
            task=self._task.learning_task,
            anchor=self._anchored(),
        )

    def _anchored(self) -> dict[str, Tensor] | None:
        """Returns what the proximal term pulls weights towards, by name; None for their values at the start."""
        if self._anchor is None:
            return None
        exchanged = [spec for unit in self._exchanged for spec in unit.tensors if spec.trainable]
        with self._anchor.open() as values:
            return {spec.name: values.read(spec.name, spec.shape).to(self._device) for spec in exchanged}

    def _measure_statistics(self) -> None:
        """Measures statistics of batch norms for the trained weights; those of training are of weights on the move."""
        model = cast("Submodel", self._prepared.model)
        measure_statistics(model, self.data, model.exits, lambda x: x.to(self._device))

    def _trainable(self) -> frozenset[str]:
        return self._sent.union(
            tensor_names(self._personal),
            tensor_names(unit for unit in self._exchanged if unit.id in self._task.withheld),
        )

    def _names_on_device(self, units: Collection[str]) -> list[str]:
        """Names of what stays on a device of these units: everything of its own heads, constants included."""
        return [
            *state_names(unit for unit in self._personal if unit.id in units),
            *tensor_names(unit for unit in self._exchanged if unit.id in units),
        ]

    def _draw_heads(self, units: Iterable[Unit], build: Callable[[int], nn.Module]) -> dict[str, Tensor]:
        names = state_names(units)
        if not names:
            return {}
        drawn = build(self._task.head_seed).state_dict()
        return {name: drawn[name].clone() for name in names}


def changes(after: Mapping[str, Tensor], start: OpenedState, statistics: Collection[str]) -> dict[str, Tensor]:
    """What a device says of tensors that it has trained.

    Args:
        after: Their values after the round.
        start: The values that everybody started from.
        statistics: Names of those that are sent as they are.

    Returns:
        By name, the change of a weight or the value of a statistic.

    Raises:
        DivergedError: See `check_update`.
    """
    update = {
        name: value if name in statistics else value - start.read(name, tuple(value.shape))
        for name, value in after.items()
    }
    check_update(update, statistics)
    return update


def check_update(update: Mapping[str, Tensor], statistics: Collection[str]) -> None:
    """Whether an update can be added to a model at all.

    Raises:
        DivergedError: A value is not finite, or a weight has changed by more than an update can say.
    """
    for name, tensor in update.items():
        value = tensor.numpy()
        # Minimum and maximum are NaN if any element is.
        most = max(-float(value.min()), float(value.max())) if value.size else 0.0
        if not math.isfinite(most):
            raise DivergedError
        if name not in statistics and most > MAX_ABS_DELTA:
            raise DivergedError(f"{name} changed by {most:.1e} in one round")
