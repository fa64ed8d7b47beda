"""Judges versions of the global model on parts of the test set, on a copy of its own.

A copy, because images are judged two to three times faster with the channels of a pixel together in memory, while what
is trained must lie as it does on a real device, to the last bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.fresh_statistics import batches, measure_statistics
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.width import WidthModel
from fedlp_edge.learning.zoo.prepared import state_names, tensor_names
from fedlp_edge.simulation.engines.jobs import EvaluatePart, EvaluatePersonalHead, PartEvaluated, PersonalHeadEvaluated
from fedlp_edge.simulation.engines.weight_tensors import load
from fedlp_edge.wire.tensors import unpack

BATCH = 128
"""Of 32 to 256, the size that most networks are judged fastest with on one thread."""

MEASURED_SAMPLES = 2048
"""Training samples on which the statistics of static batch norms are measured; see ``learning.width``."""


class Evaluator:
    """One worker's copy of the global model.

    Args:
        model: the whole one; copied.
        blueprint: of it.
        train: all training samples, for statistics of batch norm that are not part of the model.
        test: the test set.
        device: that computes.
    """

    def __init__(
        self, model: LayeredModel, blueprint: Blueprint, train: Dataset, test: Dataset, device: torch.device
    ) -> None:
        test.check_fits(blueprint.input_shape, blueprint.classes)
        self._model = copied(model, [model]).to(memory_format=torch.channels_last)
        self._blueprint = blueprint
        self._train = train
        self._test = test
        self._device = device
        self._version: int | None = None

    @torch.no_grad()
    def evaluate(self, job: EvaluatePart, weights: Mapping[str, Array]) -> PartEvaluated:
        """Judges some exits on a part of the test set.

        Args:
            job: which.
            weights: that version of the global model.
        """
        self._take(job.version, weights)
        classes = self._blueprint.classes
        samples = torch.zeros(classes, dtype=torch.int64, device=self._device)
        correct = {depth: torch.zeros_like(samples) for depth in job.depths}
        loss, together = dict.fromkeys(job.depths, 0.0), dict.fromkeys(job.depths, 0)
        for start in range(job.start, job.stop, BATCH):
            x, y = self._test.batch(slice(start, min(start + BATCH, job.stop)))
            y = y.to(self._device)
            samples += y.bincount(minlength=classes)
            total: Tensor | None = None
            for depth, logits in zip(job.depths, self._logits(x, job.depths), strict=True):
                total = logits if total is None else total + logits
                correct[depth] += y[logits.argmax(dim=1) == y].bincount(minlength=classes)
                loss[depth] += float(functional.cross_entropy(logits, y, reduction="sum"))
                # The mean of the logits has its maximum where their sum has it.
                together[depth] += int((total.argmax(dim=1) == y).sum())
        return PartEvaluated(
            start=job.start,
            samples=tuple(samples.tolist()),
            correct={depth: tuple(by_class.tolist()) for depth, by_class in correct.items()},
            loss=loss,
            together=together,
        )

    @torch.no_grad()
    def evaluate_personal_head(self, job: EvaluatePersonalHead, weights: Mapping[str, Array]) -> PersonalHeadEvaluated:
        """Judges a device's own head behind the global layers.

        Args:
            job: whose.
            weights: that version of the global model.
        """
        self._take(job.version, weights)
        held = self._blueprint.held_by(job.depth)
        own = state_names(unit for unit in held if not self._blueprint.is_global(unit))
        load(self._model, unpack(job.own), own)
        classes = self._blueprint.classes
        samples = torch.zeros(classes, dtype=torch.int64, device=self._device)
        correct = torch.zeros_like(samples)
        for x, y in self._spread(self._test, job.samples):
            labels = y.to(self._device)
            samples += labels.bincount(minlength=classes)
            right = self._model(x, depth=job.depth).argmax(dim=1) == labels
            correct += labels[right].bincount(minlength=classes)
        return PersonalHeadEvaluated(job.device, job.depth, tuple(samples.tolist()), tuple(correct.tolist()))

    def _take(self, version: int, weights: Mapping[str, Array]) -> None:
        if self._version == version:
            return
        load(self._model, weights, tensor_names(self._blueprint.global_units))
        self._model.to(self._device).eval()
        if isinstance(self._model, WidthModel):
            self._model.measure(x for x, _ in self._spread(self._train, MEASURED_SAMPLES))
        else:
            shared = self._blueprint.head_mode == "shared"
            measure_statistics(self._model, self._test, self._model.exits if shared else self._model, self._laid_out)
        self._version = version

    def _logits(self, x: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
        x = self._laid_out(x)
        if depths == (self._blueprint.full_depth,):
            return [self._model(x)]
        exits = self._model.exits(x)
        return [exits[depth - 1] for depth in depths]

    def _spread(self, data: Dataset, wanted: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of about so many samples from all over the data, the same on every worker."""
        spread = torch.arange(0, len(data), max(1, len(data) // wanted))
        for part in batches(spread):
            x, y = data.batch(part)
            yield self._laid_out(x), y

    def _laid_out(self, x: Tensor) -> Tensor:
        x = x.to(self._device)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
