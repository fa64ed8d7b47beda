"""This module reads each kind of data source and sets the normalisation of its samples.

Samples are normalised by constants of the source, never by statistics of the samples at hand, because devices with
different samples must feed equal numbers to the model for equal pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import public_datasets
from fedlp_edge.learning.data.arrays import stored
from fedlp_edge.learning.data.own_data import call, read_npz
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.picture_folders import PictureList, list_pictures
from fedlp_edge.learning.data.pictures import PictureError, display_name, read_picture
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec import DataSpec, check_source

FEW_UNREAD = 3
"""Number of unreadable pictures that may always be left out of a folder."""

MOST_UNREAD = 0.2
"""Largest share of unreadable pictures that may be left out; beyond it the owner must repair the folder."""

_SPLIT_SEED = 20230311  # never changes, because it decides which samples are held out

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TEN_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, slots=True)
class Samples:
    """Holds samples as stored, and the normalisation that turns them into a model's input.

    Attributes:
        x: Samples, uint8 or float32 [N, ...]; channels first for images.
        y: Class numbers, int64 [N].
        classes: Class names by class number; empty if unknown.
        scale: Factor from stored values to the unit of ``mean`` and ``std`` (1/255 for bytes).
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        index: Position of each sample in the listing, int64 [N]; samples that cannot be read are missing.
        remarks: One line on what was left out; empty if nothing was.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    index: Indices = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    remarks: str = ""


@dataclass(frozen=True, slots=True)
class SampleListing:
    """Describes one split of a source before its samples are read.

    Attributes:
        labels: Class numbers, int64 [N].
        classes: Class names by class number; empty if unknown.
        samples: Function that reads the samples at some positions, or all samples for None; it raises DataError if
            they are unusable.
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    samples: Callable[[Indices | None], Samples]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by class number; the numbers up to the highest label as text if the classes have no names."""
        return self.classes or tuple(str(label) for label in range(int(self.labels.max(initial=-1)) + 1))


def read(spec: DataSpec, split: Split) -> Samples:
    """Reads all samples of one split of a source.

    Raises:
        DataError: The source is missing or unusable.
    """
    return list_samples(spec, split).samples(None)


def list_samples(spec: DataSpec, split: Split) -> SampleListing:
    """Lists one split of a source, so that the caller can choose samples and read only these.

    Raises:
        DataError: The source is missing or unusable.
    """
    check_source(spec)
    if spec.source == "imagefolder":
        return _pictures(spec, split)
    return _own(spec, split) if spec.source in {"npz", "callable"} else _public(spec.source, split)


def _public(name: str, split: Split) -> SampleListing:
    if name == "digits":
        x, y = public_datasets.digits()
        part = split_indices(y, 0.2, split)
        whole = Samples(x[part], y[part], _TEN_DIGITS, scale=1 / 16, mean=(0.3053,), std=(0.3761,))
    elif name == "mnist":
        x, y = public_datasets.mnist_like("mnist", split)
        whole = Samples(x, y, _TEN_DIGITS, mean=(0.1307,), std=(0.3081,))
    elif name == "fashion-mnist":
        x, y = public_datasets.mnist_like("fashion-mnist", split)
        whole = Samples(x, y, _FASHION_CLASSES, mean=(0.2860,), std=(0.3530,))
    else:
        x, y = public_datasets.cifar10(split)
        whole = Samples(x, y, _CIFAR_CLASSES, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))

    def samples(keep: Indices | None) -> Samples:
        if keep is None:
            return replace(whole, index=np.arange(len(whole.y)))
        return replace(whole, x=whole.x[keep], y=whole.y[keep], index=keep)

    return SampleListing(whole.y, whole.classes, samples)


def split_indices(labels: npt.NDArray[np.integer], holdout: float, split: Split) -> npt.NDArray[np.int64]:
    """Splits a source that has no test split of its own, with a fixed seed and class by class.

    Args:
        labels: Class numbers, [N].
        holdout: Share of every class that goes to the test split, 0 to 1; the number of samples is rounded.
        split: Split to return.

    Returns:
        Ascending indices of the split, int64; the two splits are disjoint and together cover all samples.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out = round(holdout * len(members))
        chosen.append(members[:held_out] if split == "test" else members[held_out:])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _pictures(spec: DataSpec, split: Split) -> SampleListing:
    found = list_pictures(Path(spec.argument).expanduser(), split, spec.held_out)
    # These are ImageNet's statistics, with which torchvision's models were trained.
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if spec.shape[0] == 3 else ((0.5,), (0.5,))

    def samples(keep: Indices | None) -> Samples:
        wanted = np.arange(len(found.files)) if keep is None else keep
        x, index = _read_pictures(found, wanted, spec.shape)
        y, remarks = found.labels[index], str(found.left_out)
        return Samples(x, y, found.classes, mean=mean, std=std, index=index, remarks=remarks)

    return SampleListing(found.labels, found.classes, samples)


def _read_pictures(
    found: PictureList, wanted: Indices, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Reads pictures of a list, and adds those that cannot be read to the list's ``left_out``.

    Returns:
        Pixels uint8 [N, channels, height, width], and the positions of these N pictures in the list.

    Raises:
        DataError: Too many pictures cannot be read.
    """
    channels, height, width = shape
    x = np.empty((len(wanted), channels, height, width), np.uint8)
    good: list[int] = []
    for index in wanted.tolist():
        file = found.files[index]
        try:
            picture = read_picture(file, channels, (height, width))
        except PictureError as error:
            found.left_out.unread.append(f"{display_name(file.relative_to(found.base))} {error.reason}")
            bad = len(found.left_out.unread)
            if bad > FEW_UNREAD and bad > MOST_UNREAD * len(wanted):
                raise DataError(_too_many(found, bad, len(wanted))) from None
            continue
        x[len(good)] = picture.pixels
        found.left_out.frames += picture.several_frames
        good.append(index)
    if len(wanted) and not good:
        raise DataError(_too_many(found, len(wanted), len(wanted)))
    return x[: len(good)], np.asarray(good, dtype=np.int64)


def _too_many(found: PictureList, bad: int, wanted: int) -> str:
    first = found.left_out.unread[0]
    return (
        f"{display_name(found.base)}: {bad} of {wanted} pictures cannot be read, the first is {first}; "
        f"up to {MOST_UNREAD:.0%} are left out: repair or remove them"
    )


def _own(spec: DataSpec, split: Split) -> SampleListing:
    if spec.source == "npz":
        origin = str(Path(spec.argument).expanduser())
        (x, y, classes), own_split = read_npz(Path(origin), split)
    else:
        origin, own_split = f"data {spec.argument}", True
        x, y, classes = call(spec.argument, split)
    part = None if own_split or spec.held_out is None else split_indices(y, spec.held_out, split)
    labels = y if part is None else y[part]

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(labels)) if keep is None else keep
        chosen = x if part is None and keep is None else x[index if part is None else part[index]]
        if chosen.dtype == np.uint8:
            return Samples(chosen, labels[index], classes, index=index)
        values = stored(chosen, f"{origin}: x")
        return Samples(values, labels[index], classes, scale=1.0, mean=(0.0,), std=(1.0,), index=index)

    return SampleListing(labels, classes, samples)
