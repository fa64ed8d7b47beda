"""This module reads each kind of data source and sets the normalisation of its samples.

Samples are normalised by constants of the source, never by statistics of the samples at hand, because devices with
different samples must feed equal numbers to the model for equal pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import public_datasets
from fedlp_edge.learning.data.arrays import stored
from fedlp_edge.learning.data.hugging_face.stored_dataset import list_stored
from fedlp_edge.learning.data.own_data import call_function, read_npz
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_folders import PictureList, SkippedFiles, list_pictures, pictures_below
from fedlp_edge.learning.data.pictures.picture_samples import picture_samples
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.readers.array_files import open_arrays
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.groups import are_of_groups, grouped, groups_by_path, numbered_groups
from fedlp_edge.learning.data.readers.label_lists import find_labels, list_labelled
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.selected import SelectedReader
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets
from fedlp_edge.learning.data.sounds.sound_folders import list_sounds
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.learning.data.spec.source_checks import check_source
from fedlp_edge.learning.data.tables.table_source import list_table

_SPLIT_SEED = 20230311  # never changes, because it decides which samples are held out

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TEN_DIGITS = tuple(str(digit) for digit in range(10))


def read(spec: DataSpec, split: Split) -> Samples:
    """Reads all samples of one split of a source.

    Raises:
        DataError: The source is missing or unusable.
    """
    return list_samples(spec, split).samples(None)


def list_samples(spec: DataSpec, split: Split, kind: TargetKind | None = None) -> SampleListing:
    """Lists one split of a source, so that the caller can choose samples and read only these.

    Args:
        spec: Data specification.
        split: Split to list.
        kind: What the targets of the samples must be; None if no task is known yet.

    Raises:
        DataError: The source is missing or unusable, or its targets are not of this kind.
    """
    check_source(spec)
    list_split = {
        "imagefolder": _pictures,
        "audiofolder": list_sounds,
        "csv": list_table,
        "json": list_table,
        "parquet": list_table,
        "huggingface": list_stored,
        "npy": _array_files,
        "npz": _own,
        "callable": _own,
    }.get(spec.source, _public)
    return list_split(spec, split, kind)


def _public(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    name = spec.source
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

    pixels, found = whole.array, read_targets(whole.y, len(whole.y), (), name, "class" if kind is None else kind)
    names = whole.classes if found.kind == "class" else found.names
    whole = replace(whole, y=found.y, classes=names, targets=found.kind)

    def samples(keep: Indices | None) -> Samples:
        if keep is None:
            return replace(whole, index=np.arange(len(whole.y)))
        return replace(whole, x=pixels[keep], y=whole.y[keep], index=keep)

    return SampleListing(coarse_classes(found), names, samples)


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


def _pictures(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    found, targets, remarks, groups = _found_pictures(spec, split, kind)

    def samples(keep: Indices | None) -> Samples:
        return picture_samples(found, targets, spec, keep, remarks)

    listing = SampleListing(found.labels, targets.names, samples)
    if not spec.table.group:
        return listing
    paths = [found.name_of(number) for number in range(len(found.files))]
    owners = groups or groups_by_path(paths, spec.table.group, str(spec.path))
    return grouped(listing, owners, spec.table.only, str(spec.path))


def _found_pictures(
    spec: DataSpec, split: Split, kind: TargetKind | None
) -> tuple[PictureList, Targets, str, Sequence[str]]:
    """Lists pictures in the folders of their classes, or as a ``labels.csv`` labels them, perhaps with their groups."""
    listing = find_labels(spec.path)
    if listing is None:
        found = list_pictures(spec.path, split, spec.held_out)
        return found, read_targets(found.labels, len(found.labels), found.classes, str(spec.path), kind), "", ()
    try:
        pictures, _ = pictures_below(spec.path)
    except OSError as error:
        raise DataError(f"cannot read {spec.path}: {error.strerror}") from None
    labelled = list_labelled(listing, pictures, split, spec.held_out, kind, spec.table.group)
    targets = labelled.targets
    found = PictureList(
        spec.path, targets.names, labelled.files, coarse_classes(targets), SkippedFiles(), labelled.names
    )
    return found, targets, labelled.remarks, labelled.groups


def _array_files(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    reader, found, own_split = open_arrays(spec.path, split, kind)
    coarse = coarse_classes(found)
    positions = np.arange(len(coarse))
    if not own_split and spec.held_out is not None:
        positions = split_indices(coarse, spec.held_out, split)

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(positions)) if keep is None else keep
        chosen = positions[index]
        made = Samples(SelectedReader(reader, chosen), found.y[chosen], found.names, index=index, targets=found.kind)
        return made if reader.dtype == np.uint8 else replace(made, scale=1.0, mean=(0.0,), std=(1.0,))

    return SampleListing(coarse[positions], found.names, samples)


def _own(spec: DataSpec, split: Split, kind: TargetKind | None) -> SampleListing:
    if spec.source == "npz":
        origin = str(spec.path)
        own, own_split = read_npz(Path(origin), split, kind)
    else:
        origin = f"data {spec.argument}"
        divided = bool(spec.held_out)
        own, own_split = call_function(spec.argument, split, kind, spec.memory_bound, divided=divided)
    x, found = own.x, own.targets
    coarse = coarse_classes(found)
    part = None if own_split or spec.held_out is None else split_indices(coarse, spec.held_out, split)
    if spec.table.only:
        if not own.groups:
            raise DataError(f"{origin} has no groups for only=: return a mapping with x, y and groups, a name a sample")
        wanted = are_of_groups(own.groups, spec.table.only, origin)
        part = np.flatnonzero(wanted) if part is None else part[wanted[part]]
    blind = spec.source == "callable" and part is not None and not own_split
    remarks = f"the function knows no splits: {spec.held_out:.0%} of its samples are held out" if blind else ""
    groups, group_names = numbered_groups(own.groups) if own.groups else (None, ())
    labels, y = coarse, found.y
    if part is not None:
        labels, y, groups = labels[part], y[part], None if groups is None else groups[part]

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(len(labels)) if keep is None else keep
        positions = index if part is None else part[index]
        if not isinstance(x, np.ndarray):
            reader = CachedReader(SelectedReader(x, positions), spec.memory_bound)
            made = Samples(reader, y[index], found.names, index=index, targets=found.kind, remarks=remarks)
            return made if reader.dtype == np.uint8 else replace(made, scale=1.0, mean=(0.0,), std=(1.0,))
        chosen = x if part is None and keep is None else x[positions]
        made = Samples(chosen, y[index], found.names, index=index, targets=found.kind, remarks=remarks)
        if chosen.dtype == np.uint8:
            return made
        return replace(made, x=stored(chosen, f"{origin}: x"), scale=1.0, mean=(0.0,), std=(1.0,))

    return SampleListing(labels, found.names, samples, groups, group_names)
