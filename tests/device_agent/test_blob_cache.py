"""The cache answers for what is whole and for nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from device_agent.blob_cache import BlobCache
from device_agent.protocol.downloads import Downloads
from fedlp_edge.wire.chunks import Chunk, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Ranges, UnitVersion
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


def test_what_a_read_only_disk_keeps_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = filled(tmp_path)
    half = version("L2", CONTENT * 2)
    cache.begin(half)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only")))
        cache.discard(half)
        cache.keep_only(())
    assert len(list(tmp_path.iterdir())) == 2
    cache.keep_only(())
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


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


def large(directory: Path) -> tuple[bytes, UnitVersion, Downloads]:
    """A file of a release in chunks of 16 kB, and its download."""
    content = np.random.default_rng(1).bytes(200_000)
    version = UnitVersion("file-0123456789abcdef", digest_of(content), len(content), 16_384)
    downloads = Downloads(BlobCache(directory, resume=True), lambda _version, _blob: None)
    downloads.start([version], 0.0)
    return content, version, downloads


def receive(downloads: Downloads, content: bytes, version: UnitVersion, which: Ranges) -> None:
    for chunk in split(content, version.digest, version.chunk_bytes, which):
        downloads.receive(None, Chunk.parse(chunk), len(chunk), 1.0)


def test_goes_on_with_a_release_where_an_earlier_life_has_got_to(tmp_path: Path):
    content, version, downloads = large(tmp_path)
    receive(downloads, content, version, ((0, 5), (7, 9)))
    again = large(tmp_path)[2]
    assert again.missing == 13 - 7
    receive(again, content, version, ((5, 7), (9, 13)))
    assert again.complete
    assert BlobCache(tmp_path).path(version.digest).read_bytes() == content


def test_whole_download_that_was_not_named_yet_is_complete_at_once(tmp_path: Path):
    content, version, downloads = large(tmp_path)
    receive(downloads, content[:-1] + b"X", version, ((0, 13),))  # all is there, and it is not the file
    assert downloads.missing == 13
    assert large(tmp_path)[2].missing == 13, "its digest is another one"
    (tmp_path / f"{version.digest}.part").write_bytes(content)
    assert large(tmp_path)[2].complete


def test_release_that_nobody_wants_any_more_leaves_nothing(tmp_path: Path):
    content, version, downloads = large(tmp_path)
    receive(downloads, content, version, ((0, 5),))
    BlobCache(tmp_path, resume=True).keep_only(())
    assert list(tmp_path.iterdir()) == []


def test_file_that_lies_elsewhere_is_a_blob_without_a_second_copy(tmp_path: Path) -> None:
    damaged, whole = tmp_path / "damaged", tmp_path / "whole"
    damaged.write_bytes(CONTENT[:-1] + b"X")
    whole.write_bytes(CONTENT)
    cache = BlobCache(tmp_path / "cache", others=lambda digest: [damaged, whole] if digest == VERSION.digest else [])
    assert cache.has(VERSION.digest)
    assert cache.path(VERSION.digest).samefile(whole)
    assert not cache.has(digest_of(b"something else"))
