"""This module parses data specifications, single lines of text that name samples.

An example is ``fashion-mnist#share=3/8&partition=dirichlet:0.5&seed=1&limit=1500``: short enough for a command line,
and complete, so that two processes with the specification get equal samples. Parsing needs neither data nor PyTorch,
so a command can refuse a wrong specification at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Partitioner, parse_partitioner

NAMED = ("digits", "fashion-mnist", "mnist", "cifar10")
FORMS = f"{', '.join(NAMED)}, imagefolder:DIR, npz:FILE or module:callable"
OPTIONS = ("share", "partition", "seed", "limit", "holdout", "size", "channels")

HOLDOUT = 0.2
"""Default share of samples that is held out if one source without a test split serves both devices and tests."""

SIZE, CHANNELS = (32, 32), 3
"""Height and width in pixels, and channels, of pictures if neither the specification nor a model sets them."""

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MAX_SIZE = 4096

Source = Literal["digits", "fashion-mnist", "mnist", "cifar10", "imagefolder", "npz", "callable"]


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

    @property
    def held_out(self) -> float | None:
        """Share of samples, 0 to 1, that a source without a test split holds out; None if it is not split at all."""
        if self.undivided:
            return None
        return HOLDOUT if self.holdout is None else self.holdout

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of ``imagefolder`` pictures, with defaults for what is not set."""
        return (self.channels or CHANNELS, *(self.size or SIZE))

    @property
    def takes_any_size(self) -> bool:
        """Whether the samples can be resized for any image model."""
        return self.source == "imagefolder" and self.size is None and self.channels is None

    def for_model(self, input_shape: tuple[int, ...]) -> DataSpec:
        """Returns the specification with the model's picture size and channels where it sets none itself.

        Args:
            input_shape: Shape of one sample that the model takes, channels first; empty if unknown.
        """
        if self.source != "imagefolder" or len(input_shape) != len(self.shape) or input_shape[0] not in (1, 3):
            return self
        channels, height, width = input_shape
        return replace(self, size=self.size or (height, width), channels=self.channels or channels)

    def whole(self) -> DataSpec:
        """Returns the specification for a source that serves one purpose only: a device's training data or a test set.

        A device trains on all its samples, and a test set is used as a whole for evaluation. Only a source that is
        partitioned among devices, or whose specification sets ``holdout``, is split.
        """
        return replace(self, undivided=True) if self.holdout is None and self.share is None else self


def parse_spec(text: str) -> DataSpec:
    """Parses a data specification.

    Raises:
        DataError: The text is malformed; the message says what is allowed.
    """
    name, mark, tail = text.rpartition("#")
    if not mark:
        name, tail = text, ""
    source, argument = _parse_source(name)
    options = _parse_options(tail, text) if mark else {}
    if "partition" in options and "share" not in options:
        raise DataError(f"data {text!r}: partition= distributes samples among devices; add share=K/N, or leave it out")
    if source != "imagefolder" and ("size" in options or "channels" in options):
        raise DataError(f"data {text!r}: size= and channels= are for imagefolder only")
    share = None
    if "share" in options:
        device, devices = _parse_share(options["share"])
        share = Share(device, devices, parse_partitioner(options.get("partition", "iid")))
    return DataSpec(
        source=source,
        argument=argument,
        share=share,
        seed=_whole(options, "seed", default=0, least=0),
        limit=_whole(options, "limit", default=0, least=1) or None,
        holdout=_fraction(options["holdout"]) if "holdout" in options else None,
        size=_parse_size(options["size"]) if "size" in options else None,
        channels=_parse_channels(options["channels"]) if "channels" in options else None,
    )


def check_source(spec: DataSpec) -> None:
    """Checks that the user's own directory or file exists, before any slow work begins.

    Raises:
        DataError: The directory or file is missing or cannot be accessed, or Pillow is missing for pictures.
    """
    if spec.source not in {"imagefolder", "npz"}:
        return
    try:
        _check_path(spec, Path(spec.argument).expanduser())
    except (OSError, RuntimeError) as error:  # no permission, too long a name, or the home of an unknown user
        raise DataError(f"cannot read {spec.argument}: {getattr(error, 'strerror', None) or error}") from None


def _check_path(spec: DataSpec, path: Path) -> None:
    if spec.source == "imagefolder" and not path.is_dir():
        raise DataError(f"there is no image directory {path}")
    if spec.source == "imagefolder" and find_spec("PIL") is None:  # an extra that only pictures need
        raise DataError('pictures need Pillow: pip install "fedlp-edge[vision]"')
    if spec.source == "npz" and not path.is_file():
        raise DataError(f"there is no file {path}")


def check_outside(spec: DataSpec, directory: Path, option: str) -> None:
    """Checks that an output directory does not lie inside the user's picture folder, where it would count as a class.

    Args:
        spec: Data specification of the pictures.
        directory: Output directory, which need not exist.
        option: Command-line option that sets another output directory, for the message.

    Raises:
        DataError: The output directory lies inside the picture folder.
    """
    if spec.source != "imagefolder":
        return
    pictures = Path(spec.argument).expanduser().resolve()
    if directory.expanduser().resolve().is_relative_to(pictures):
        raise DataError(
            f"{directory} lies among the pictures in {pictures}, where its files would be taken for a class: "
            f"name a place outside with {option}"
        )


def _parse_source(name: str) -> tuple[Source, str]:
    for named in NAMED:
        if name == named:
            return named, ""  # type: ignore[return-value]  # NAMED is a subset of Source
    kind, _, argument = name.partition(":")
    if kind in ("imagefolder", "npz"):
        if not argument:
            raise DataError(
                f"data {name!r} lacks its {'directory' if kind == 'imagefolder' else 'file'}: write {FORMS}"
            )
        return ("imagefolder" if kind == "imagefolder" else "npz"), argument
    if _CALLABLE.fullmatch(name):
        return "callable", name
    raise DataError(f"data {name!r} is unknown: use {FORMS}")


def _parse_options(tail: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in tail.split("&"):
        key, equals, value = pair.partition("=")
        if not equals or key not in OPTIONS:
            raise DataError(f"data {text!r}: {pair!r} is no option; after # come {', '.join(OPTIONS)}, joined by &")
        if key in options:
            raise DataError(f"data {text!r}: {key}= is given twice")
        options[key] = value
    return options


def _parse_share(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    if match:
        device, devices = int(match[1]), int(match[2])
        if device < devices:
            return device, devices
    raise DataError(f"share={value} is wrong: write share=K/N, device K of N, counted from 0 (0/8 to 7/8)")


def _parse_size(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", value)
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 1 <= height <= _MAX_SIZE and 1 <= width <= _MAX_SIZE:
            return height, width
    raise DataError(f"size={value} is wrong: write size=64 or size=HEIGHTxWIDTH, at most {_MAX_SIZE} pixels")


def _parse_channels(value: str) -> int:
    if value not in ("1", "3"):
        raise DataError(f"channels={value} is wrong: 1 for grey images, 3 for RGB")
    return int(value)


def _whole(options: dict[str, str], key: str, default: int, least: int) -> int:
    value = options.get(key)
    if value is None:
        return default
    if not re.fullmatch(r"\d{1,15}", value) or int(value) < least:
        raise DataError(f"{key}={value} is wrong: write a whole number, {least} or more")
    return int(value)


def _fraction(value: str) -> float:
    if not re.fullmatch(r"0|1|0?\.\d{1,9}|1\.0", value):
        raise DataError(f"holdout={value} is wrong: write a number from 0 to 1")
    return float(value)
