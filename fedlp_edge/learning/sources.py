"""One function per kind of data source: where samples come from and how they are scaled.

Normalisation is by constants that belong to the source, never by statistics of the samples at hand:
devices that see different samples must feed the same numbers for the same picture.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning import fetch
from fedlp_edge.learning.dataspec import DataSpec, check_source
from fedlp_edge.learning.fetch import Split

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")

_SPLIT_SEED = 20230311  # fixed for ever: it decides which samples are held out

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TEN_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples as they are stored, with what turns them into a model's input.

    Attributes:
        x: [N, ...] unsigned bytes or float32; channels first for images.
        y: [N] class numbers.
        classes: names by class number; empty if unknown.
        scale: factor from stored values to the unit that ``mean`` and ``std`` are in (1/255 for bytes).
        mean: per channel, or a single value for all.
        std: likewise.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)


def read(spec: DataSpec, split: Split) -> Samples:
    """Reads one split of a source, whole.

    Raises:
        DataError: it is missing or unusable.
    """
    check_source(spec)
    if spec.source == "digits":
        return _digits(split)
    if spec.source in {"mnist", "fashion-mnist"}:
        return _mnist_like(spec.source, split)
    if spec.source == "cifar10":
        return _cifar10(split)
    if spec.source == "imagefolder":
        return _imagefolder(spec, split)
    return _npz(spec, split) if spec.source == "npz" else _callable(spec, split)


def _digits(split: Split) -> Samples:
    x, y = fetch.digits()
    keep = split_indices(y, 0.2, split)
    return Samples(x[keep], y[keep], _TEN_DIGITS, scale=1 / 16, mean=(0.3053,), std=(0.3761,))


def _mnist_like(name: str, split: Split) -> Samples:
    if name == "mnist":
        x, y = fetch.mnist_like("mnist", split)
        return Samples(x, y, _TEN_DIGITS, mean=(0.1307,), std=(0.3081,))
    x, y = fetch.mnist_like("fashion-mnist", split)
    return Samples(x, y, _FASHION_CLASSES, mean=(0.2860,), std=(0.3530,))


def _cifar10(split: Split) -> Samples:
    x, y = fetch.cifar10(split)
    return Samples(x, y, _CIFAR_CLASSES, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


def split_indices(labels: npt.NDArray[np.integer], holdout: float, split: Split) -> npt.NDArray[np.int64]:
    """A fixed split, class by class, for sources that have none of their own.

    Args:
        labels: [N].
        holdout: share of every class that is held out, rounded.
        split: which side is wanted.

    Returns:
        Ascending indices; the two sides are disjoint and together cover all samples.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out = round(holdout * len(members))
        chosen.append(members[:held_out] if split == "test" else members[held_out:])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _imagefolder(spec: DataSpec, split: Split) -> Samples:
    root = Path(spec.argument).expanduser()
    own_splits = (root / "train").is_dir() or (root / "test").is_dir()
    base = root / split if own_splits else root
    if not base.is_dir():
        raise DataError(f"{root} has no {split} directory beside its other split")
    classes = _class_names(root, base)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = sorted(p for p in (base / name).glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not own_splits and spec.held_out is not None:
            members = [p for p in members if _is_held_out(f"{name}/{p.name}", spec.held_out) == (split == "test")]
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"{base} holds no {split} images: it needs CLASS/*.png (or {', '.join(IMAGE_SUFFIXES[1:])})")
    x = np.stack([_read_image(file, spec) for file in files])
    # ImageNet's statistics, which torchvision's own models were trained with.
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if spec.shape[0] == 3 else ((0.5,), (0.5,))
    return Samples(x, np.asarray(labels, dtype=np.int64), classes, mean=mean, std=std)


def _class_names(root: Path, base: Path) -> tuple[str, ...]:
    """From ``classes.txt`` if there is one: a device that lacks a class must still number the rest alike."""
    found = sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    listing = root / "classes.txt"
    if not listing.is_file():
        return tuple(found)
    try:
        named = [line.strip() for line in listing.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {listing}: {error}") from None
    unlisted = [name for name in found if name not in named]
    if unlisted:
        raise DataError(f"{base / unlisted[0]} is a class that {listing} does not name")
    return tuple(named)


def _is_held_out(name: str, holdout: float) -> bool:
    """By a hash of its name, so that a picture added later moves no other one across."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") < holdout * 2**48


def _read_image(file: Path, spec: DataSpec) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image  # noqa: PLC0415  # an extra: only image folders need it
    except ImportError:
        raise DataError('imagefolder needs Pillow: pip install "fedlp-edge[vision]"') from None
    channels, height, width = spec.shape
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {file}: {error}") from None
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _npz(spec: DataSpec, split: Split) -> Samples:
    path = Path(spec.argument).expanduser()
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise DataError(f"{path} is a single array; save x and y with numpy.savez")
            names = set(archive.files)
            own_split = "x_test" in names and "y_test" in names
            suffix = "_test" if split == "test" and own_split else ""
            if f"x{suffix}" not in names or f"y{suffix}" not in names:
                raise DataError(f"{path} has no arrays x{suffix} and y{suffix} for the {split} split")
            x, y = archive[f"x{suffix}"], archive[f"y{suffix}"]
            classes = tuple(str(name) for name in archive["classes"]) if "classes" in names else ()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error} (object arrays are refused; save plain numbers)") from None
    samples = _own_arrays(x, y, str(path), classes)
    return samples if own_split else _held_out_part(samples, spec, split)


def _callable(spec: DataSpec, split: Split) -> Samples:
    """Runs the user's own function, which they named on their own command line."""
    module_name, _, attribute = spec.argument.partition(":")
    try:
        function: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
        made = function(split)
    except DataError:
        raise
    except Exception as error:  # whatever the user's code raises is theirs to read, in one line
        raise DataError(f"data {spec.argument} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise DataError(f"data {spec.argument} must return (x, y) or (x, y, class names) for {split!r}")
    classes = tuple(str(name) for name in made[2]) if len(made) == 3 else ()
    return _own_arrays(np.asarray(made[0]), np.asarray(made[1]), spec.argument, classes)


def _held_out_part(samples: Samples, spec: DataSpec, split: Split) -> Samples:
    if spec.held_out is None:
        return samples
    keep = split_indices(samples.y, spec.held_out, split)
    return Samples(samples.x[keep], samples.y[keep], samples.classes, samples.scale, samples.mean, samples.std)


def _own_arrays(x: npt.NDArray[Any], y: npt.NDArray[Any], origin: str, classes: tuple[str, ...]) -> Samples:
    """Checks a user's arrays; bytes are taken as pixels, other numbers as ready for the model."""
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        raise DataError(f"{origin}: x must be [N, ...] and y [N], but they are {list(x.shape)} and {list(y.shape)}")
    if not np.issubdtype(y.dtype, np.integer) or (len(y) and y.min() < 0):
        raise DataError(f"{origin}: y must hold class numbers from 0, not {y.dtype}")
    y = y.astype(np.int64)
    if x.dtype == np.uint8:
        return Samples(x, y, classes)
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise DataError(f"{origin}: x must hold numbers, not {x.dtype}")
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(f"{origin}: x holds values that are not finite")
    return Samples(x, y, classes, scale=1.0, mean=(0.0,), std=(1.0,))
