"""This module defines what a data specification says once it is parsed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fedlp_edge.learning.data.partitioners import Partitioner
from fedlp_edge.learning.data.spec.source_kinds import ON_DISK, PICTURES, Source
from fedlp_edge.system.directories import expand_user

HOLDOUT = 0.2
"""Default share of samples that is held out if one source without a test split serves both devices and tests."""

SIZE, CHANNELS = (32, 32), 3
"""Height and width in pixels, and channels, of pictures if neither the specification nor a model sets them."""

MEGABYTE = 10**6

CACHE_BYTES = 256 * MEGABYTE
"""Most bytes that the samples of a source take in memory unless the specification sets ``cache``. Pictures and sounds
that take less are decoded at once; of others as many as fit are kept, and the rest is decoded when it is needed."""


@dataclass(frozen=True, slots=True)
class Share:
    """Names one device's part of a data set that is partitioned among a simulated fleet.

    Attributes:
        device: Number of the device, from 0.
        devices: Number of devices in the fleet.
        partition: Partitioner that distributes the samples.
    """

    device: int
    devices: int
    partition: Partitioner


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Says which columns of a table are what, and how its rows become samples.

    Attributes:
        target: Names of the columns that are learned; empty for none.
        features: Names of the columns that the model gets, in this order; empty for all other columns of numbers.
        group: Name of the column that tells whose rows they are, such as a person or a machine; ``file`` for the file's
            name; empty if all rows of a file are one series. Of folders of pictures or sounds, a column of their
            ``labels.csv``, or a regular expression that finds the group in the path of a file.
        only: Values of the group's column whose rows are used; empty for all.
        time: Names of the column, or of those of date and clock, by which the rows of a series are ordered; empty for
            their order in the file.
        window: Number of successive rows of one series that are a sample; 0 if each row is one.
        stride: Number of rows from the start of a window to the start of the next.
        horizon: Number of rows from the last row of a sample to the row whose target is learned.
        missing: Numbers that stand for a gap, such as -9999.
        missing_words: Words that stand for a gap in a CSV file, such as ERR.
        encoding: Encoding of the text of a CSV file, as Python calls it; empty to find it out.
        shape: Shape that a row is brought to as a sample, channels first; empty for one dimension.
        header: Whether the first line of a CSV file names the columns; otherwise they are called by their numbers.
    """

    target: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    group: str = ""
    only: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    window: int = 0
    stride: int = 1
    horizon: int = 0
    missing: tuple[float, ...] = ()
    missing_words: tuple[str, ...] = ()
    encoding: str = ""
    header: bool = True
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Says how sounds become samples.

    Attributes:
        rate: Samples per second to which sounds are converted.
        seconds: Length to which sounds are cut, or filled up with silence.
        mels: Number of frequency bands.
    """

    rate: int = 16_000
    seconds: float = 1.0
    mels: int = 40


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Holds a parsed data specification.

    Attributes:
        source: Name of a public data set, or the kind of the user's own source.
        argument: Directory, file or ``module:callable``; empty for a public data set.
        share: Part of one device of a simulated fleet; None for all samples. Held-out samples are never partitioned.
        seed: Seed of the partitioner and of the choice of samples under ``limit``.
        limit: Most samples, chosen at random; None for all samples.
        holdout: Share of samples, 0 to 1, that is held out if the source has no test split of its own; None for the
            default.
        size: Height and width in pixels to which pictures of ``imagefolder`` are resized; None for the model's size.
        channels: Channels of ``imagefolder`` pictures, 1 (grey) or 3 (RGB); None for the model's number.
        undivided: Whether a source without a test split returns all its samples for either split.
        cache: Most bytes that samples take in memory, of sources that can be read in parts; None for the default.
        table: Columns of ``csv``, ``json``, ``parquet`` and ``huggingface``; groups of folders, ``npz`` and functions.
        sound: Conversion of ``audiofolder``.
    """

    source: Source
    argument: str = ""
    share: Share | None = None
    seed: int = 0
    limit: int | None = None
    holdout: float | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    undivided: bool = False
    cache: int | None = None
    table: TableOptions = TableOptions()
    sound: SoundOptions = SoundOptions()

    @property
    def path(self) -> Path:
        """Directory or file of a source on disk."""
        return expand_user(self.argument)

    @property
    def watched(self) -> tuple[Path, ...]:
        """Files and directories whose contents are the samples; none of public data sets and functions."""
        if self.source not in ON_DISK:
            return ()
        beside = self.path.with_name("y.npy")
        return (self.path, beside) if self.source == "npy" and beside.is_file() else (self.path,)

    @property
    def memory_bound(self) -> int:
        """Most bytes that samples take in memory, of sources that can be read in parts."""
        return CACHE_BYTES if self.cache is None else self.cache

    @property
    def held_out(self) -> float | None:
        """Share of samples, 0 to 1, that a source without a test split holds out; None if it is not split at all."""
        if self.undivided:
            return None
        return HOLDOUT if self.holdout is None else self.holdout

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of pictures, with defaults for what is not set."""
        return (self.channels or CHANNELS, *(self.size or SIZE))

    @property
    def leaves_size_open(self) -> bool:
        """Whether pictures of the source are resized to whatever the model takes."""
        return self.source in PICTURES and self.size is None and self.channels is None

    def for_model(self, input_shape: tuple[int, ...]) -> DataSpec:
        """Returns the specification with the model's picture size and channels where it sets none itself.

        Args:
            input_shape: Shape of one sample that the model takes, channels first; empty if unknown.
        """
        if self.source not in PICTURES or len(input_shape) != len(self.shape) or input_shape[0] not in (1, 3):
            return self
        channels, height, width = input_shape
        return replace(self, size=self.size or (height, width), channels=self.channels or channels)

    def whole(self) -> DataSpec:
        """Returns the specification for a source that serves one purpose only: a device's training data or a test set.

        A device trains on all its samples, and a test set is used as a whole for evaluation. Only a source that is
        partitioned among devices, or whose specification sets ``holdout``, is split.
        """
        return replace(self, undivided=True) if self.holdout is None and self.share is None else self
