"""This module describes the samples of a source before and after they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.sample_keys import Keys


@dataclass(frozen=True, slots=True)
class Samples:
    """Holds samples as stored, and the normalisation that turns them into a model's input.

    Attributes:
        x: Samples, uint8 or float32 [N, ...], channels first for images; or what reads them when they are needed.
        y: Targets, int64 [N] or float32 [N, K], as ``targets`` says.
        classes: Class names by class number, or names of the K columns; empty if unknown.
        scale: Factor from stored values to the unit of ``mean`` and ``std`` (1/255 for bytes).
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        index: Position of each sample in the listing, int64 [N]; samples that cannot be read are missing.
        remarks: One line on what was left out; empty if nothing was.
        targets: What the targets are.
        features: Names of the features, which are the channels of a sample; empty if they have none.
        names: Hashes of the names of the samples, by which they are held out; None to use their values.
        resizable: Whether they are pictures of any size, resized for the model.
    """

    x: npt.NDArray[Any] | SampleReader
    y: npt.NDArray[Any]
    classes: tuple[str, ...]
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    index: Indices = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    remarks: str = ""
    targets: TargetKind = "class"
    features: tuple[str, ...] = ()
    names: Keys | None = None
    resizable: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.x.shape[1:] if isinstance(self.x, np.ndarray) else self.x.shape

    @property
    def array(self) -> npt.NDArray[Any]:
        """All samples in memory, [N, ...]."""
        return self.x if isinstance(self.x, np.ndarray) else self.x.read(np.arange(len(self.x)))


@dataclass(frozen=True, slots=True)
class SampleListing:
    """Describes one split of a source before its samples are read.

    Attributes:
        labels: Class numbers, int64 [N]; of other targets than classes, numbers by which samples are partitioned.
        classes: Class names by class number; empty if unknown.
        samples: Function that reads the samples at some positions, or all samples for None; it raises DataError if
            they are unusable.
        groups: Number of the group of each sample, int64 [N]; None if the source has no groups.
        group_names: Names of the groups by number.
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    samples: Callable[[Indices | None], Samples]
    groups: npt.NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by class number; the numbers up to the highest label as text if the classes have no names."""
        return self.classes or tuple(str(label) for label in range(int(self.labels.max(initial=-1)) + 1))
