"""Judges versions of the global model on parts of the test set, on a copy of its own.

A copy, because images are judged two to three times faster with the channels of a pixel together in memory, while what
is trained must lie as it does on a real device, to the last bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import ExitSummation, logits_of
from fedlp_edge.learning.model.fresh_statistics import batches, measure_statistics
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.state_values import load_values
from fedlp_edge.learning.model.width import WidthModel
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.zoo.prepared import state_names, tensor_names
from fedlp_edge.simulation.engines.jobs import EvaluatePart, EvaluatePersonalHead, PartEvaluated, PersonalHeadEvaluated
from fedlp_edge.simulation.engines.weight_tensors import ArrayState
from fedlp_edge.wire.tensors import unpack

BATCH = 128
"""Of 32 to 256, the size that most networks are judged fastest with on one thread."""

MEASURED_SAMPLES = 2048
"""Training samples on which the statistics of static batch norms are measured; see ``learning.width``."""


class Evaluator:
    """One worker's copy of the global model.

    Args:
        model: The whole one; copied.
        blueprint: Blueprint of the model.
        train: All training samples, for statistics of batch norm that are not part of the model.
        test: The test set.
        device: Device that computes.
        task: What the outputs mean.
    """

    def __init__(
        self,
        model: LayeredModel,
        blueprint: Blueprint,
        train: Dataset,
        test: Dataset,
        device: torch.device,
        task: LearningTask,
    ) -> None:
        test.check_fits(blueprint.input_shape, blueprint.classes, own_task=task.name not in BUILT_IN_TASKS)
        self._model = copied(model, [model]).to(memory_format=torch.channels_last)
        self._blueprint = blueprint
        self._train = train
        self._test = test
        self._device = device
        self._task = task
        self._version: int | None = None

    @torch.no_grad()
    def evaluate(self, job: EvaluatePart, weights: Mapping[str, Array]) -> PartEvaluated:
        """Judges some exits on a part of the test set.

        Args:
            job: Job.
            weights: Values of the version of the global model that the job names.
        """
        self._load(job.version, weights)
        exits = self._blueprint.exits_for(job.depths)
        summed = ExitSummation(job.depths, self._task, exits)
        for start in range(job.start, job.stop, BATCH):
            x, y = self._test.batch(slice(start, min(start + BATCH, job.stop)))
            x = self._laid_out(x)
            outputs = logits_of(self._model, x, exits, self._blueprint.full_depth)
            summed.add(outputs, y.to(self._device), x)
        return PartEvaluated(job.start, summed.sums())

    @torch.no_grad()
    def evaluate_personal_head(self, job: EvaluatePersonalHead, weights: Mapping[str, Array]) -> PersonalHeadEvaluated:
        """Judges a device's own head behind the global layers.

        Args:
            job: Whose.
            weights: Values of the version of the global model that the job names.
        """
        self._load(job.version, weights)
        load_values(
            self._model,
            ArrayState(unpack(job.withheld_values)),
            state_names(self._blueprint.personal_of(job.depth)),
        )
        summed = ExitSummation((job.depth,), self._task)
        for x, y in self._spread(self._test, job.samples):
            summed.add([self._model(x, depth=job.depth)], y.to(self._device), x)
        return PersonalHeadEvaluated(job.device, job.depth, summed.sums())

    def _load(self, version: int, weights: Mapping[str, Array]) -> None:
        if self._version == version:
            return
        load_values(self._model, ArrayState(weights), tensor_names(self._blueprint.global_units))
        self._model.to(self._device).eval()
        if isinstance(self._model, WidthModel):
            self._model.measure(x for x, _ in self._spread(self._train, MEASURED_SAMPLES))
        else:
            shared = self._blueprint.head_mode == "shared"
            measure_statistics(self._model, self._test, self._model.exits if shared else self._model, self._laid_out)
        self._version = version

    def _spread(self, data: Dataset, wanted: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of about so many samples from all over the data, the same on every worker."""
        spread = torch.arange(0, len(data), max(1, len(data) // wanted))
        for part in batches(spread):
            x, y = data.batch(part)
            yield self._laid_out(x), y

    def _laid_out(self, x: Tensor) -> Tensor:
        x = x.to(self._device)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
