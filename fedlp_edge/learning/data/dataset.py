"""Samples in memory, ready to be trained on in batches.

Pixels stay unsigned bytes and become normalised float32 a few batches at a time: Fashion-MNIST then takes
47 MB instead of 188, which decides whether it fits a small board, and small batches do not pay for the
conversion one by one. There is no DataLoader: its worker processes cost more than they give for samples
that are in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedlp_edge.core.class_names import numbers_in
from fedlp_edge.core.device_data import MAX_CLASSES, MAX_NAME, DataFacts, mismatch, names_digest
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec import DataSpec, parse_spec
from fedlp_edge.learning.data.subset import select_indices

BLOCK_BYTES = 1 << 20
"""Samples that are converted together, as float32: some batches of small images, at most one of large ones."""


@dataclass(frozen=True)
class Dataset:
    """Labelled samples on one device.

    Attributes:
        x: [N, ...] as stored, uint8 or float32.
        y: [N] int64 class numbers.
        classes: names by class number; empty if the samples have numbers alone.
        scale: factor from stored values to the unit of ``mean`` and ``std``.
        mean: per channel, or one value for all.
        std: likewise.
        remarks: one line on what the source holds besides; empty if nothing.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    remarks: str = ""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def nbytes(self) -> int:
        """Memory that the samples take, bytes."""
        return self.x.nbytes + self.y.nbytes

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Some samples, normalised: x float32 [B, ...] and y int64 [B]."""
        shape = (-1,) + (1,) * (self.x.ndim - 2)
        mean = torch.tensor(self.mean, device=self.x.device).reshape(shape)
        std = torch.tensor(self.std, device=self.x.device).reshape(shape)
        return (self.x[indices].float() * self.scale).sub_(mean).div_(std), self.y[indices]

    def batches(self, indices: Iterable[Tensor], *, channels_last: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Batch after batch as `batch` gives them, converted together as far as `BLOCK_BYTES` reach.

        Args:
            indices: of the samples of each batch, on the CPU.
            channels_last: lay the pixels of images out with the channels of one together.
        """
        per_sample = 4 * max(1, self.x[0].numel())
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
        x, y = self.batch(torch.cat(block).to(self.x.device))
        if channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        sizes = [len(batch) for batch in block]
        return zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)

    def to(self, device: torch.device) -> Dataset:
        """The same samples in that device's memory."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def facts(self) -> DataFacts:
        """What others may know of these samples."""
        present = torch.unique(self.y).tolist()
        few = len(self.classes) <= MAX_CLASSES
        return DataFacts(
            sample_shape=self.input_shape,
            classes=tuple(name[:MAX_NAME] for name in self.classes) if few else (),
            classes_digest=names_digest(self.classes),
            absent=tuple(sorted(set(range(len(self.classes))) - set(present))) if few else (),
            labels=len(present),
            highest=present[-1] if present else 0,
        )

    def check_fits(self, input_shape: tuple[int, ...], classes: int, names: tuple[str, ...] = ()) -> None:
        """Whether a model can take these samples.

        Args:
            input_shape: of one sample of the model.
            classes: that it tells apart.
            names: of the fleet's classes by number; empty if classes are numbers there.

        Raises:
            DataError: the shape or the labels do not go with the model.
        """
        if reason := mismatch(self.facts(), input_shape, classes, names):
            raise DataError(reason)

    def numbered_as(self, names: tuple[str, ...]) -> Dataset:
        """The same samples with the class numbers that a fleet has agreed on.

        Args:
            names: of the fleet's classes by number; empty if classes are numbers there.

        Raises:
            DataError: there are samples of a class that the fleet does not have.
        """
        if not (names and self.classes) or self.classes == names[: len(self.classes)]:
            return self
        table = numbers_in(names, self.classes)[self.y.numpy()]
        if (table < 0).any():
            raise DataError(mismatch(self.facts(), self.input_shape, len(names), names) or "a class has no number")
        return replace(self, y=torch.from_numpy(table), classes=names)


def load_data(spec: str | DataSpec, split: Split = "train", input_shape: tuple[int, ...] = ()) -> Dataset:
    """Loads what a data specification names.

    Args:
        spec: see :mod:`fedlp_edge.learning.data.spec`. A share applies to the training split only; a
            limit applies to whichever split is asked for.
        split: ``train`` or ``test``.
        input_shape: of one sample of the model that they are for; pictures are brought to its size.

    Raises:
        DataError: the specification is wrong, or the data is missing or unusable.
    """
    spec = (parse_spec(spec) if isinstance(spec, str) else spec).for_model(input_shape)
    listing = sources.listing(spec, split)
    samples = listing.samples(select_indices(listing.labels, spec, split))
    if len(samples.y) == 0:
        raise DataError(f"{spec.source} {spec.argument} has no samples in its {split} split".replace("  ", " "))
    return Dataset(
        # Copied only where it must be: torch may not wrap read-only memory.
        x=torch.from_numpy(np.require(samples.x, requirements=["C", "W"])),
        y=torch.from_numpy(np.require(samples.y, requirements=["C", "W"])),
        classes=samples.classes,
        scale=samples.scale,
        mean=samples.mean,
        std=samples.std,
        remarks=samples.remarks,
    )
