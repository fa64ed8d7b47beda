"""Versions on a device: whole or not there, and a link that is never missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.installation.version_store import VersionStore, kept_versions
from fedlp_edge.wire.digests import digest_of


def add(store: VersionStore, content: bytes, name: str = "m.onnx") -> str:
    source = store.directory.parent / "blob"
    source.write_bytes(content)
    target = store.add(source, name, digest_of(content), {"self_test.npz": b"test"})
    source.unlink()
    return target


def test_version_stands_under_its_digest_and_its_name(tmp_path: Path) -> None:
    store = VersionStore(tmp_path / "models")
    target = add(store, b"one")
    assert target == f"versions/{digest_of(b'one')[:16]}/m.onnx"
    assert store.path(target).read_bytes() == b"one"
    assert store.beside(target, "self_test.npz").read_bytes() == b"test"
    assert store.current == ""


def test_link_follows_the_switch(tmp_path: Path) -> None:
    store = VersionStore(tmp_path / "models")
    one, two = add(store, b"one"), add(store, b"two")
    for target, content in ((one, b"one"), (two, b"two"), (one, b"one")):
        store.switch(target)
        assert store.link.read_bytes() == content
        assert store.current == target
    store.switch("")
    assert store.current == ""


def test_damaged_version_is_written_again(tmp_path: Path) -> None:
    store = VersionStore(tmp_path / "models")
    target = add(store, b"one")
    store.path(target).write_bytes(b"rot")
    assert not store.has(target, digest_of(b"one"))
    assert add(store, b"one") == target
    assert store.path(target).read_bytes() == b"one"


def test_only_named_versions_and_the_current_one_are_kept(tmp_path: Path) -> None:
    store = VersionStore(tmp_path / "models")
    targets = [add(store, content) for content in (b"one", b"two", b"three")]
    store.switch(targets[0])
    (tmp_path / "models" / "current.onnx.part").symlink_to("nowhere")
    store.keep_only([targets[2]])
    assert [store.path(target).exists() for target in targets] == [True, False, True]
    assert not (tmp_path / "models" / "current.onnx.part").is_symlink()


def test_models_of_earlier_versions_of_the_agent_are_left_alone(tmp_path: Path) -> None:
    store = VersionStore(tmp_path / "models")
    target = add(store, b"one")
    (tmp_path / "models" / "run-depth-2.onnx").write_bytes(b"old")
    store.switch("run-depth-2.onnx")
    store.keep_only([target])
    assert store.link.read_bytes() == b"old"


@pytest.mark.parametrize(("keep", "expected"), [(1, ()), (2, ("b",)), (3, ("b", "c")), (9, ("b", "c", "d"))])
def test_rule_keeps_the_newest(keep: int, expected: tuple[str, ...]) -> None:
    assert kept_versions("a", ["b", "a", "c", "b", "", "d"], keep) == expected
