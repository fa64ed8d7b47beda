"""Files of public data sets."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import public_datasets
from fedlp_edge.learning.data.dataset import load_data


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data sets, with nothing else to fall back on."""
    monkeypatch.setenv("FEDLP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(public_datasets, "SYSTEM_DIRS", {})
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for variable in ("XDG_CACHE_HOME", "FEDLP_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder", "suffix"),
    [
        ("mnist", "mnist", ".gz"),
        ("mnist", "mnist/MNIST/raw", ""),
        ("mnist", "home/.cache/fedlp-edge/mnist/MNIST/raw", ".gz"),
        ("fashion-mnist", "fashion-mnist/FashionMNIST/raw", ".gz"),
    ],
)
def test_load_mnist_finds_local_copies(data_dir: Path, name: str, folder: str, suffix: str) -> None:
    place = data_dir / folder
    place.mkdir(parents=True)
    images = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    for stem, array in (("images-idx3", images), ("labels-idx1", np.array([7, 0, 9], dtype=np.uint8))):
        raw = idx(array)
        (place / f"train-{stem}-ubyte{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)
    data = load_data(name, "train")
    assert data.stored()[:, 0].numpy().tolist() == images.tolist()
    assert data.y.tolist() == [7, 0, 9]


def test_the_cache_is_where_the_user_keeps_caches(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLP_DATA_DIR")
    assert public_datasets.cache_dir("mnist") == data_dir / "home/.cache/fedlp-edge/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_dir / "xdg"))
    assert public_datasets.cache_dir("mnist") == data_dir / "xdg/fedlp-edge/mnist"
    monkeypatch.setenv("FEDLP_CACHE_DIR", str(data_dir / "own"))
    assert public_datasets.cache_dir("mnist") == data_dir / "own/mnist"


def test_a_data_set_is_downloaded_to_where_it_is_looked_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mnist:
        """torchvision's class, without its network."""

        def __init__(self, root: str, *, download: bool) -> None:
            assert download
            place = Path(root, "MNIST", "raw")
            place.mkdir(parents=True)
            (place / "t10k-images-idx3-ubyte").write_bytes(idx(np.full((2, 28, 28), 5, np.uint8)))
            (place / "train-images-idx3-ubyte").write_bytes(b"")
            (place / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 4], np.uint8)))

    monkeypatch.setattr(public_datasets, "_torchvision_class", lambda name: Mnist)
    monkeypatch.setenv("HOME", str(data_dir / "me"))
    monkeypatch.chdir(data_dir)
    monkeypatch.setenv("FEDLP_DATA_DIR", "~/sets")  # as services and crontabs hand it over
    assert public_datasets.mnist_like("mnist", "test")[1].tolist() == [3, 4]
    assert (data_dir / "me" / "sets" / "mnist" / "MNIST").is_dir()
    assert not (data_dir / "~").exists()


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x00\x00\x08", b"\x00\x00\x0d\x01\x00\x00\x00\x01a", b"\x00\x00\x08\x01\x00\x00\x00\x05abc", b"text"],
)
def test_read_idx_refuses_what_is_not_whole(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(DataError, match=r"file is (not an IDX file|cut short)"):
        public_datasets.read_idx(tmp_path / "file")
    (tmp_path / "file.gz").write_bytes(gzip.compress(raw)[:-9])
    with pytest.raises(DataError, match=r"cannot read .*file\.gz"):
        public_datasets.read_idx(tmp_path / "file.gz")


def test_load_cifar10_reads_the_binary_version(data_dir: Path) -> None:
    place = data_dir / "cifar10" / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    record = np.zeros((2, 3073), dtype=np.uint8)
    record[:, 0] = [3, 8]
    record[0, 1 : 1 + 1024] = 255  # the red plane comes first
    record.tofile(place / "test_batch.bin")
    data = load_data("cifar10", "test")
    assert data.stored().shape == (2, 3, 32, 32)
    assert data.y.tolist() == [3, 8]
    assert [int(plane.max()) for plane in data.stored()[0]] == [255, 0, 0]
    (place / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(DataError, match="not a CIFAR-10 binary file"):
        load_data("cifar10", "test")


def test_load_mnist_says_where_to_put_a_copy_when_there_is_no_network(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens on the discard port
    with pytest.raises(DataError, match="neither here nor to be had") as caught:
        load_data("mnist")
    assert str(data_dir / "mnist") in str(caught.value)
