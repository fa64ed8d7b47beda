"""A task's weights become files of float32, decoded once for each version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.blob_cache import BlobCache
from device_agent.decoded_weights import DecodedWeights
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.broadcast_encoding import encode_weights, published_weights
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import UnitVersion
from fedlp_edge.wire.tensors import unpack_file

TENSORS = (TensorSpec("L1.weight", (2, 8)),)
WEIGHTS = {"L1.weight": np.linspace(-1, 2, 16, dtype=np.float32).reshape(2, 8)}


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache")


def arrived(cache: BlobCache, encoding: BroadcastEncoding, factor: float = 1.0) -> UnitVersion:
    """Puts a unit into the cache, as a download would."""
    blob = encode_weights(TENSORS, {"L1.weight": WEIGHTS["L1.weight"] * np.float32(factor)}, encoding)
    version = UnitVersion("L1", digest_of(blob), len(blob), 1000, encoding)
    cache.path(version.digest).write_bytes(blob)
    return version


def test_float32_is_loaded_from_the_cache(cache: BlobCache, tmp_path: Path) -> None:
    version = arrived(cache, "none")
    assert DecodedWeights(cache, tmp_path / "weights").paths([version], {}) == (cache.path(version.digest),)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("encoding", ["fp16", "int8", "int4", "int4+zstd", "none+zstd"])
def test_what_is_encoded_is_decoded_beside_the_cache(
    cache: BlobCache, tmp_path: Path, encoding: BroadcastEncoding
) -> None:
    (path,) = DecodedWeights(cache, tmp_path / "weights").paths([arrived(cache, encoding)], {"L1": TENSORS})
    expected = published_weights(TENSORS, WEIGHTS, encoding)["L1.weight"]
    assert unpack_file(path)["L1.weight"].tobytes() == expected.tobytes()


def test_earlier_versions_are_removed_and_known_ones_kept(cache: BlobCache, tmp_path: Path) -> None:
    weights = DecodedWeights(cache, tmp_path / "weights")
    one, other = arrived(cache, "int8"), arrived(cache, "int8", factor=2)
    (first,) = weights.paths([one], {"L1": TENSORS})
    written = first.stat().st_mtime_ns
    assert weights.paths([one], {"L1": TENSORS}) == (first,)
    assert first.stat().st_mtime_ns == written
    (second,) = weights.paths([other], {"L1": TENSORS})
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [second.name]


def test_what_an_earlier_process_left_is_decoded_again(cache: BlobCache, tmp_path: Path) -> None:
    version = arrived(cache, "int8")
    (path,) = DecodedWeights(cache, tmp_path / "weights").paths([version], {"L1": TENSORS})
    whole = path.read_bytes()
    path.write_bytes(b"")  # as a power cut leaves a file that nothing had waited for
    assert DecodedWeights(cache, tmp_path / "weights").paths([version], {"L1": TENSORS}) == (path,)
    assert path.read_bytes() == whole


def test_no_round_waits_until_a_disk_has_what_can_be_decoded_again(
    cache: BlobCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = arrived(cache, "int8")
    monkeypatch.setattr("os.fsync", lambda _: pytest.fail("waited for the disk"))
    DecodedWeights(cache, tmp_path / "weights").paths([version], {"L1": TENSORS})


def test_a_blob_that_is_something_else_is_refused(cache: BlobCache, tmp_path: Path) -> None:
    version = arrived(cache, "int8")
    with pytest.raises(PeerError, match=r"^the weights lack L2.weight$"):
        DecodedWeights(cache, tmp_path / "weights").paths([version], {"L1": (TensorSpec("L2.weight", (1,)),)})
