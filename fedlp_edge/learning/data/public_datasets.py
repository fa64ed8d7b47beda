"""This module reads public data sets from local files, and downloads them only if there are none.

The IDX format of MNIST is read with numpy, so that a small device need not import torchvision. torchvision is used for
downloads, and for the Python version of CIFAR-10.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.system.directories import expand_user, home_directory
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.locks import lock_file
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.system.portable.edited_text import environment_variable

Split = Literal["train", "test"]
Bytes = npt.NDArray[np.uint8]

SYSTEM_DIRS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Directories in which Linux distributions install data sets (Debian: the package dataset-fashion-mnist)."""

_TORCHVISION_CLASS = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR10"}
_IDX_PREFIX = {"train": "train", "test": "t10k"}
_CIFAR_IMAGE = 3 * 32 * 32  # bytes of one image in the binary version
_CIFAR_FILES = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}


def digits() -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Reads the 1,797 scanned digits that scikit-learn contains.

    The file is read without importing scikit-learn, which would cost a worker a second and 100 MB.

    Returns:
        Images uint8 [1797, 1, 8, 8] with values 0 to 16, and labels int64 [1797].

    Raises:
        DataError: Scikit-learn is not installed, or its file cannot be read.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"the data set digits comes with scikit-learn: {install_command('coordinator')}")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read scikit-learn's digits at {path}: {error}") from None
    return table[:, :64].astype(np.uint8).reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64)


def mnist_like(name: Literal["mnist", "fashion-mnist"], split: Split) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Reads one split of MNIST or Fashion-MNIST.

    Returns:
        Images uint8 [N, 1, 28, 28] with values 0 to 255, and labels int64 [N].

    Raises:
        DataError: There is no local copy and the download fails, or the files are damaged.
    """
    folder = _idx_folder(name)
    if folder is None:
        _download(name)
        folder = _idx_folder(name)
    if folder is None:
        raise DataError(f"{name} was downloaded to {cache_dir(name)}, but its files are not there")
    prefix = _IDX_PREFIX[split]
    images = read_idx(_idx_file(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_idx_file(folder, f"{prefix}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(f"{folder} holds {images.shape} images and {labels.shape} labels, which do not go together")
    return images[:, None], labels.astype(np.int64)


def cifar10(split: Split) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Reads one split of CIFAR-10.

    The binary version (``cifar-10-batches-bin``) is read here. The Python version is read by torchvision, which checks
    the published MD5 of every file before it opens the file.

    Returns:
        Images uint8 [N, 3, 32, 32] with values 0 to 255, and labels int64 [N].

    Raises:
        DataError: There is no local copy and the download fails, or the files are damaged.
    """
    for folder in _candidates("cifar10"):
        binary = folder / "cifar-10-batches-bin"
        if binary.is_dir():
            return _read_cifar_binary([binary / file for file in _CIFAR_FILES[split]])
        if (folder / "cifar-10-batches-py").is_dir():
            return _read_cifar_with_torchvision(folder, split)
    _download("cifar10")
    return _read_cifar_with_torchvision(cache_dir("cifar10"), split)


def cache_dir(name: str) -> Path:
    """Returns the download directory: ``$FEDLP_DATA_DIR/NAME``, else one in the cache of this user.

    Raises:
        StorageError: None is named, and this user has no home directory.
    """
    if root := environment_variable("FEDLP_DATA_DIR"):
        return expand_user(root) / name
    if (cached := cache_directory(name)) is not None:
        return cached
    return home_directory("name the directory of data sets with FEDLP_DATA_DIR") / ".cache" / "fedlp-edge" / name


def read_idx(path: Path) -> Bytes:
    """Reads an IDX file of unsigned bytes, gzipped or not.

    Returns:
        Array uint8 of the shape that the file states.

    Raises:
        DataError: The file is missing, is not an IDX file of bytes, or is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path} is not an IDX file of bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    body = memoryview(raw)[4 + 4 * raw[3] :]
    if len(body) != math.prod(shape):
        raise DataError(f"{path} is cut short: {len(body)} bytes where {shape} are stated")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _candidates(name: str) -> list[Path]:
    places = [SYSTEM_DIRS[name]] if name in SYSTEM_DIRS else []
    if root := environment_variable("FEDLP_DATA_DIR"):
        places.append(expand_user(root) / name)
    cached = cache_directory(name)
    return places if cached is None else [*places, cached]


def _idx_folder(name: str) -> Path | None:
    wanted = "train-images-idx3-ubyte"
    for place in _candidates(name):
        for folder in (place, place / _TORCHVISION_CLASS[name] / "raw"):
            if (folder / wanted).is_file() or (folder / f"{wanted}.gz").is_file():
                return folder
    return None


def _idx_file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_cifar_binary(files: list[Path]) -> tuple[Bytes, npt.NDArray[np.int64]]:
    records = []
    for file in files:
        try:
            raw = np.fromfile(file, dtype=np.uint8)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error}") from None
        if len(raw) == 0 or len(raw) % (1 + _CIFAR_IMAGE):
            raise DataError(f"{file} is not a CIFAR-10 binary file")
        records.append(raw.reshape(-1, 1 + _CIFAR_IMAGE))
    table = np.concatenate(records)
    return table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0].astype(np.int64)


def _read_cifar_with_torchvision(folder: Path, split: Split) -> tuple[Bytes, npt.NDArray[np.int64]]:
    try:
        data = _torchvision_class("cifar10")(str(folder), train=split == "train", download=False)
    except RuntimeError as error:
        raise DataError(f"cannot read CIFAR-10 in {folder}: {error}") from None
    return np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)), np.asarray(data.targets, dtype=np.int64)


def _torchvision_class(name: str) -> Any:
    try:
        from torchvision import datasets  # noqa: PLC0415  # 150 MB that most devices never need
    except ModuleNotFoundError:
        places = ", ".join(str(place) for place in _candidates(name))
        raise DataError(
            f"no copy of {name} in {places}, and no torchvision to get one: {install_command('vision')}"
        ) from None
    return getattr(datasets, _TORCHVISION_CLASS[name])


def _download(name: str) -> None:
    """Downloads a data set into the cache; of several processes that start together only one downloads it."""
    kind = _torchvision_class(name)
    folder = cache_dir(name)
    try:
        with _locked(folder):
            kind(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name} is neither here nor to be had from the network ({reason}): put a copy into {folder}"
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_file(folder / ".lock", patience_seconds=math.inf)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()
