"""This module serves labelled samples in normalised batches.

Pixels stay unsigned bytes and are converted to normalised float32 a few batches at a time: Fashion-MNIST then takes
47 MB instead of 188 MB, which decides whether it fits a small board, and small batches share the cost of a conversion.
There is no DataLoader, because its worker processes cost more than they gain for samples that are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import msgspec
import numpy as np
import torch
from torch import Tensor

from fedlp_edge.core.class_names import numbers_in
from fedlp_edge.core.device_data import (
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_NAME,
    DataFacts,
    InputFacts,
    feature_mismatch,
    listed,
    mismatch,
    names_digest,
)
from fedlp_edge.core.standardisation.column_sums import MAX_COLUMNS, ColumnSums, merged_columns
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.column_statistics import column_sums
from fedlp_edge.learning.data.readers.found import FoundData, describe
from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.data.readers.sample_keys import Keys
from fedlp_edge.learning.data.sample_store import SamplesInMemory, SamplesOnDemand, SampleStore
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.subset import select_indices

MAX_MEASURED = 1 << 16
"""Most samples from which the statistics of features are computed."""

BLOCK_BYTES = 1 << 20
"""Bytes of float32 from which a block of batches is converted: many batches of small images, or one of large images."""


DESCRIBED = 256
"""Samples, spread over the data, from which means and deviations of channels are taken."""


@dataclass(frozen=True)
class Dataset:
    """Holds labelled samples that are read in batches, and their normalisation.

    Attributes:
        store: The samples as stored, uint8 or float32 [N, ...].
        y: Targets, int64 [N] or float32 [N, K], on the device on which samples arrive.
        classes: Class names by class number, or names of the K targets; empty if they have only numbers.
        scale: Factor from stored values to the unit of ``mean`` and ``std``.
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        remarks: One line on what was left out of the source; empty if nothing was.
        targets: What ``y`` is.
        resizable: Whether the samples are pictures of any size, resized for the model.
    """

    store: SampleStore
    y: Tensor
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    remarks: str = ""
    targets: TargetKind = "class"
    resizable: bool = False

    @classmethod
    def of_tensor(
        cls,
        x: Tensor,
        y: Tensor,
        classes: tuple[str, ...],
        scale: float,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        targets: TargetKind = "class",
    ) -> Self:
        """Returns a data set of samples ``x`` in memory, uint8 or float32 [N, ...]; the others are attributes."""
        return cls(SamplesInMemory(x), y, classes, scale, mean, std, targets=targets)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.store.shape

    @property
    def nbytes(self) -> int:
        """Most memory that samples and labels take between two batches, bytes."""
        return self.store.nbytes + self.y.nbytes

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, which are the channels of a sample; empty if they have none."""
        return self.store.features

    @property
    def in_memory(self) -> bool:
        """Whether all samples are in memory, and none has to be read again."""
        return isinstance(self.store, SamplesInMemory)

    def stored(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Returns the samples at some indices as they are stored, uint8 or float32 [B, ...]; all samples by default."""
        return self.store.read(indices)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Returns the samples at some indices, normalised: x float32 [B, ...] and y [B, ...]."""
        x = self.store.read(indices)
        shape = (-1,) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).reshape(shape)
        std = torch.tensor(self.std, device=x.device).reshape(shape)
        return (x.float() * self.scale).sub_(mean).div_(std), self.y[indices]

    def batches(self, indices: Iterable[Tensor], *, channels_last: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields normalised batches like `batch`, and converts batches of up to `BLOCK_BYTES` together.

        Args:
            indices: Indices of the samples of each batch, int64 [B] on the CPU.
            channels_last: Whether images are laid out in torch's ``channels_last`` memory format.
        """
        per_sample = 4 * max(1, math.prod(self.input_shape))
        block: list[Tensor] = []
        count = 0
        for batch in indices:
            block.append(batch)
            count += len(batch)
            if count * per_sample >= BLOCK_BYTES:
                yield from self._converted(block, channels_last=channels_last)
                block, count = [], 0
        if block:
            yield from self._converted(block, channels_last=channels_last)

    def _converted(self, block: list[Tensor], *, channels_last: bool) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.batch(torch.cat(block).to(self.y.device))
        if channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        sizes = [len(batch) for batch in block]
        return zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)

    def subset(self, indices: Tensor) -> Dataset:
        """Returns the samples at some indices, int64 [M] on the CPU, as a data set of their own."""
        return replace(self, store=self.store.subset(indices), y=self.y[indices.to(self.y.device)])

    def sample_keys(self) -> Keys:
        """Returns a hash of each sample, uint64 [N]; equal samples have equal hashes, on every device."""
        return self.store.keys()

    def to(self, device: torch.device) -> Dataset:
        """Returns the data set with batches that arrive on a torch device."""
        return replace(self, store=self.store.to(device), y=self.y.to(device))

    def found(self) -> FoundData:
        """Returns what samples there are, for the owner of the device."""
        found = describe(self.y.numpy(force=True), self.classes, self.targets, self.input_shape)
        return msgspec.structs.replace(found, features=self.features, in_memory=self.in_memory, remarks=self.remarks)

    def facts(self) -> DataFacts:
        """Returns what the coordinator is allowed to know of these samples, among it shape and class names.

        Raises:
            DataError: The samples have more features than a fleet can agree on.
        """
        if len(self.features) > MAX_COLUMNS:
            raise DataError(
                f"the samples have {len(self.features):,} features, and a fleet agrees on the scale of "
                f"{MAX_COLUMNS:,} at most: choose some with features=, or give arrays (npz:), whose values are taken "
                "as they are"
            )
        return msgspec.structs.replace(self._label_facts(), inputs=self._input_facts())

    def _label_facts(self) -> DataFacts:
        present = torch.unique(self.y).tolist() if self.targets in ("class", "none") else []
        few = len(self.classes) <= MAX_CLASSES
        return DataFacts(
            sample_shape=self.input_shape,
            classes=tuple(name[:MAX_NAME] for name in self.classes) if few else (),
            classes_digest=names_digest(self.classes),
            absent=tuple(sorted(set(range(len(self.classes))) - set(present))) if few and present else (),
            labels=len(present),
            highest=present[-1] if present else 0,
            target_kind=self.targets,
            features=self._feature_sums() if self.features else None,
            targets=self._target_sums(),
        )

    def _target_sums(self) -> ColumnSums | None:
        """Returns the statistics of the targets; None if they are no numbers, or too many, as those of maps are."""
        if self.targets == "none" or (self.y.ndim == 2 and self.y.shape[1] > MAX_COLUMNS):
            return None
        y = self.y.numpy(force=True)
        if self.targets == "class":
            numbers = np.array([_number_of(name) for name in self.classes]) if self.classes else None
            values = y.astype(np.float64) if numbers is None else numbers[y]
            return column_sums(values[:, None], ("1",)) if np.isfinite(values).all() else None
        names = tuple(name[:MAX_NAME] for name in self.classes)
        return column_sums(y, names or tuple(str(number) for number in range(1, y.shape[1] + 1)))

    def _arranged_targets(self, names: tuple[str, ...]) -> Dataset:
        """Returns the data set with its labels or targets in the order of the fleet's names."""
        if lacking := [name for name in names if name not in self.classes]:
            raise DataError(f"the samples have no target {listed(lacking)}; they have {listed(self.classes)}")
        order = torch.tensor([self.classes.index(name) for name in names], device=self.y.device)
        return replace(self, y=self.y[:, order], classes=names)

    def _feature_sums(self) -> ColumnSums:
        """Returns the statistics of the features, of samples from all over the data set if there are very many."""
        chosen = torch.linspace(0, len(self) - 1, min(MAX_MEASURED, len(self)), dtype=torch.float64).long()
        per_sample = 8 * max(1, math.prod(self.input_shape))
        blocks = torch.split(chosen, max(1, BLOCK_BYTES // per_sample))
        names = tuple(name[:MAX_NAME] for name in self.features)
        return merged_columns(column_sums(self.stored(block).numpy(force=True), names) for block in blocks)

    def _input_facts(self) -> InputFacts | None:
        """Returns the normalisation, and mean and deviation of each channel of some samples; None of too many."""
        if max(len(self.mean), len(self.std)) > MAX_CHANNELS:
            return None
        spread = torch.arange(0, len(self), max(1, len(self) // DESCRIBED))
        x = self.batch(spread)[0].transpose(0, 1).flatten(1) if len(self.input_shape) else torch.empty(0, 0)
        told = 0 < len(x) <= MAX_CHANNELS and bool(x.isfinite().all())
        return InputFacts(
            scale=self.scale,
            mean=self.mean,
            std=self.std,
            channel_mean=tuple(x.mean(dim=1).tolist()) if told else (),
            channel_std=tuple(x.std(dim=1, correction=0).tolist()) if told else (),
        )

    def check_fits(
        self, input_shape: tuple[int, ...], classes: int, names: tuple[str, ...] = (), *, own_task: bool = False
    ) -> None:
        """Checks that a model can be trained on these samples.

        Args:
            input_shape: Shape of one sample that the model takes.
            classes: Number of the model's classes.
            names: Class names of the fleet by class number; empty if the fleet's classes have only numbers.
            own_task: Whether the task is the user's own, whose targets nobody else can check.

        Raises:
            DataError: The shape of the samples or their labels do not match the model.
        """
        if reason := mismatch(self._label_facts(), input_shape, classes, names, self.targets, own_task=own_task):
            raise DataError(reason)

    def normalised_as(self, names: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> Dataset:
        """Returns the data set with the order and the normalisation of the fleet's features.

        Args:
            names: Names of the fleet's features in the order in which the model gets them; empty if it has none.
            mean: Mean of each feature.
            std: Standard deviation of each feature.

        Raises:
            DataError: The features of the samples are not those of the fleet.
        """
        if not names or not self.features:
            return self
        if reason := feature_mismatch(self._label_facts(), names):
            raise DataError(reason)
        store = self.store if self.features == names else self.store.arranged(names)
        return replace(self, store=store, mean=mean, std=std)

    def numbered_as(self, names: tuple[str, ...]) -> Dataset:
        """Returns the data set with the class numbers of the fleet.

        Args:
            names: Class names of the fleet by class number; empty if the fleet's classes have only numbers.

        Raises:
            DataError: There are samples of a class that the fleet does not have.
        """
        if not (names and self.classes) or self.classes == names[: len(self.classes)]:
            return self
        if self.targets in ("labels", "values"):
            return self._arranged_targets(names)
        if self.targets == "none":
            return self
        table = numbers_in(names, self.classes)[self.y.numpy()]
        if (table < 0).any():
            reason = mismatch(self._label_facts(), self.input_shape, len(names), names)
            raise DataError(reason or "a class has no number")
        return replace(self, y=torch.from_numpy(table), classes=names)


def _number_of(name: str) -> float:
    """Returns the number that a name states; not a number if it states none."""
    try:
        return float(name)
    except ValueError:
        return math.nan


def load_data(
    spec: str | DataSpec,
    split: Split = "train",
    input_shape: tuple[int, ...] = (),
    targets: TargetKind | None = None,
) -> Dataset:
    """Loads one split of the samples that a data specification names.

    Args:
        spec: Data specification, parsed or as text (:mod:`fedlp_edge.learning.data.spec.parsing`). Its share
            applies to the training split only, its limit to either split.
        split: ``train`` or ``test``.
        input_shape: Shape of one sample that the model takes, to which pictures are resized; empty if unknown.
        targets: Kind of the targets that the task learns; None if the task is not known yet.

    Raises:
        DataError: The specification is wrong, or the data are missing or unusable.
    """
    spec = (parse_spec(spec) if isinstance(spec, str) else spec).for_model(input_shape)
    listing = sources.list_samples(spec, split, targets)
    samples = listing.samples(select_indices(listing.labels, spec, split, listing.groups))
    if len(samples.y) == 0:
        raise DataError(f"{spec.source} {spec.argument} has no samples in its {split} split".replace("  ", " "))
    return Dataset(
        store=_store(samples),
        y=torch.from_numpy(np.require(samples.y, requirements=["C", "W"])),
        classes=samples.classes,
        scale=samples.scale,
        mean=samples.mean,
        std=samples.std,
        remarks=samples.remarks,
        targets=samples.targets,
        resizable=samples.resizable,
    )


def _store(samples: Samples) -> SampleStore:
    if isinstance(samples.x, np.ndarray):
        # ``require`` copies only read-only or scattered arrays, which torch cannot share.
        x = torch.from_numpy(np.require(samples.x, requirements=["C", "W"]))
        return SamplesInMemory(x, samples.names, samples.features)
    return SamplesOnDemand(samples.x, np.arange(len(samples.x)), features=samples.features)
