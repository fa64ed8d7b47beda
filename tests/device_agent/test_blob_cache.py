"""The cache answers for what is whole and for nothing else."""

from __future__ import annotations

from pathlib import Path

from device_agent.blob_cache import BlobCache
from tests.device_agent.support import version

CONTENT = b"layer" * 20
VERSION = version("L1", CONTENT)


def filled(directory: Path) -> BlobCache:
    cache = BlobCache(directory)
    sink = cache.begin(VERSION)
    sink.write(0, CONTENT)
    sink.close()
    cache.keep(VERSION)
    return cache


def test_keeps_a_blob_over_a_restart(tmp_path: Path):
    assert filled(tmp_path).has(VERSION.digest)
    again = BlobCache(tmp_path)
    assert again.has(VERSION.digest)
    assert again.path(VERSION.digest).read_bytes() == CONTENT


def test_does_not_have_what_is_still_coming(tmp_path: Path):
    cache = BlobCache(tmp_path)
    cache.begin(VERSION).write(0, CONTENT)
    assert not cache.has(VERSION.digest)
    assert bytes(cache.written(VERSION)) == CONTENT


def test_removes_a_half_download_of_an_earlier_life(tmp_path: Path):
    BlobCache(tmp_path).begin(VERSION).close()
    BlobCache(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_removes_a_blob_that_the_disk_has_damaged(tmp_path: Path):
    filled(tmp_path)
    (tmp_path / VERSION.digest).write_bytes(CONTENT[:-1] + b"X")
    assert not BlobCache(tmp_path).has(VERSION.digest)
    assert list(tmp_path.iterdir()) == []


def test_forgets_a_download_that_is_thrown_away(tmp_path: Path):
    cache = BlobCache(tmp_path)
    cache.begin(VERSION)
    cache.discard(VERSION)
    assert list(tmp_path.iterdir()) == []


def test_keeps_only_what_the_last_task_named(tmp_path: Path):
    cache = filled(tmp_path)
    other = version("L2", b"other")
    cache.begin(other).write(0, b"other")
    cache.keep_only({"0" * 64})
    assert not cache.has(VERSION.digest)
    assert bytes(cache.written(other)) == b"other"  # a download is not touched


def test_goes_on_with_a_download_whose_name_becomes_known(tmp_path: Path):
    cache = BlobCache(tmp_path)
    unnamed = version("L1", CONTENT + b"more")
    sink = cache.begin(unnamed)
    sink.write(0, CONTENT)
    cache.rename(unnamed, VERSION)
    assert sink.digest() == VERSION.digest
    cache.keep(VERSION)
    assert cache.path(VERSION.digest).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [VERSION.digest]
