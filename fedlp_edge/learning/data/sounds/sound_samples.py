"""This module makes samples of listed sounds: read at once if they fit into memory, else when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.data.readers.sample_keys import keys_of_names
from fedlp_edge.learning.data.readers.target_values import Targets
from fedlp_edge.learning.data.readers.unread_files import TRIED
from fedlp_edge.learning.data.sounds.log_mel import MEAN, STD, SoundFile
from fedlp_edge.learning.data.sounds.sound_reader import SoundReader
from fedlp_edge.learning.data.spec.data_spec import DataSpec


@dataclass(frozen=True, slots=True)
class SoundList:
    """Lists the sounds of one split.

    Attributes:
        files: The N sounds.
        names: Names of the sounds, by a hash of which they are held out: paths below a folder, or hashes of contents.
        shown: What the sounds are called in messages.
        targets: Targets of the N sounds.
        remarks: One line on what is left out; empty if nothing is.
        nbytes: Memory that the encoded sounds take, bytes; none if they are files.
    """

    files: Sequence[SoundFile]
    names: Sequence[str]
    shown: Sequence[str]
    targets: Targets
    remarks: str
    nbytes: int = 0


def sound_samples(found: SoundList, spec: DataSpec, keep: Indices | None) -> Samples:
    """Reads some sounds of a list, or prepares to read them.

    Args:
        found: The sounds of one split.
        spec: Data specification, which tells their conversion and the most memory.
        keep: Positions of the wanted sounds in the list; None for all.

    Raises:
        DataError: Too many sounds cannot be read.
    """
    index = np.arange(len(found.files)) if keep is None else keep
    reader = SoundReader(found.files, found.names, found.shown, index, spec.sound, str(spec.path))
    size = len(index) * int(np.prod(reader.shape)) * reader.dtype.itemsize
    reader.read(np.unique(np.linspace(0, len(index) - 1, min(TRIED, len(index))).astype(np.int64)))
    small = size <= spec.memory_bound
    bound = spec.memory_bound - found.nbytes
    x = reader.read(np.arange(len(index))) if small else CachedReader(reader, bound, reader.unread_files)
    if len(index) and reader.unread == len(index):
        raise DataError(f"{spec.path}: none of its sounds can be read, the first is {reader.first_unread}")
    return Samples(
        x,
        found.targets.y[index],
        found.targets.names,
        scale=1.0,
        mean=(MEAN,),
        std=(STD,),
        index=index,
        remarks="; ".join(filter(None, (found.remarks, reader.take_note()))),
        targets=found.targets.kind,
        names=keys_of_names(found.names[number] for number in index.tolist()),
    )
