"""This module makes samples of listed pictures: decoded at once if they fit into memory, else when they are needed."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.device_data import picture_normalisation
from fedlp_edge.learning.data.arrays import AnyArray
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.learning.data.pictures.picture_folders import PictureList
from fedlp_edge.learning.data.pictures.picture_reader import PictureReader, read_pictures
from fedlp_edge.learning.data.readers.base import SampleReader
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.data.readers.sample_keys import keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets
from fedlp_edge.learning.data.spec.data_spec import DataSpec

LIKELY_SHAPE = (3, 224, 224)
"""Shape of pictures by which it is decided whether to decode a folder at once if neither the specification nor a model
has told their size yet."""


def picture_samples(
    found: PictureList, targets: Targets, spec: DataSpec, keep: Indices | None, remarks: str = ""
) -> Samples:
    """Reads some pictures of a list, or prepares to read them.

    Args:
        found: The pictures of one split.
        targets: Targets of all of them.
        spec: Data specification, which tells size, channels and the most memory.
        keep: Positions of the wanted pictures in the list; None for all.
        remarks: One line on what the list leaves out; empty if nothing is.

    Raises:
        DataError: Too many pictures cannot be read.
    """
    mean, std = picture_normalisation(spec.shape[0])
    wanted = np.arange(len(found.files)) if keep is None else keep
    if len(wanted) * math.prod(spec.shape if spec.size else LIKELY_SHAPE) > spec.memory_bound:
        reader = PictureReader(found, wanted, spec.shape)
        reader.try_some()
        # Until the model is known, its size of pictures is not, and nothing is worth keeping.
        x: AnyArray | SampleReader = (
            CachedReader(reader, spec.memory_bound - found.nbytes, reader.unread_files) if spec.size else reader
        )
        index = wanted
    else:
        x, index = read_pictures(found, wanted, spec.shape)
        found.skipped.contradicting[:] = _contradicting(found, x, index)
    return Samples(
        x,
        targets.y[index],
        targets.names,
        mean=mean,
        std=std,
        index=index,
        remarks="; ".join(filter(None, (remarks, str(found.skipped)))),
        targets=targets.kind,
        names=keys_of_names(found.name_of(number) for number in index.tolist()),
        resizable=True,
    )


def _contradicting(found: PictureList, x: npt.NDArray[np.uint8], index: Indices) -> list[str]:
    """Returns which pictures have the pixels of a picture of another class that stands before them.

    Pictures of one grey show nothing that could contradict a class.
    """
    if found.names:  # a list may give a picture several labels
        return []
    first: dict[bytes, int] = {}
    pairs = []
    for number, pixels in zip(index.tolist(), x, strict=True):
        if pixels.min(initial=255) == pixels.max(initial=0):
            continue
        twin = first.setdefault(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest(), number)
        if found.labels[twin] != found.labels[number]:
            pairs.append(f"{display_name(found.name_of(number))} is {display_name(found.name_of(twin))}")
    return pairs
