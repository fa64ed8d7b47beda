from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.system.machine_cache import MachineCache, cache_directory


class Speed(msgspec.Struct, frozen=True):
    macs: int


def test_another_process_reads_what_was_written(tmp_path: Path) -> None:
    MachineCache(tmp_path, Speed).write("cpu", Speed(7))
    assert MachineCache(tmp_path, Speed).read("cpu") == Speed(7)
    assert MachineCache(tmp_path, Speed).read("gpu") is None
    assert [path.name for path in tmp_path.iterdir()] == ["cpu.json"]


@pytest.mark.parametrize("damaged", [b"", b'{"macs": "many"}', b"\xff"])
def test_what_is_damaged_is_not_known(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "cpu.json").write_bytes(damaged)
    assert MachineCache(tmp_path, Speed).read("cpu") is None


@pytest.mark.parametrize("directory", [None, Path("/proc/none")])
def test_goes_without_a_directory(directory: Path | None) -> None:
    cache = MachineCache(directory, Speed)
    with cache.locked(1):
        cache.write("cpu", Speed(7))
        assert cache.read("cpu") is None


def test_one_at_a_time_unless_it_hangs(tmp_path: Path) -> None:
    cache, order = MachineCache(tmp_path, Speed), []

    def second(patience: float) -> None:
        with MachineCache(tmp_path, Speed).locked(patience):
            order.append(patience)

    patient = threading.Thread(target=second, args=(60.0,))
    hasty = threading.Thread(target=second, args=(0.05,))
    with cache.locked(1):
        patient.start()
        hasty.start()
        hasty.join()
        order.append(0.0)
    patient.join()
    assert order == [0.05, 0.0, 60.0]


def test_directory_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLP_CACHE_DIR", "/elsewhere")
    assert cache_directory("compute") == Path("/elsewhere/compute")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("FEDLP_CACHE_DIR", "~/caches")
    assert cache_directory("compute") == Path("/home/me/caches/compute")
    monkeypatch.delenv("FEDLP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_directory("compute") == Path("/caches/fedlp-edge/compute")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory("compute") == Path("/home/somebody/.cache/fedlp-edge/compute")


def test_writes_where_nobody_has_measured_yet(tmp_path: Path) -> None:
    cache = MachineCache(tmp_path / "new" / "kind", Speed)
    cache.write("key", Speed(3))
    assert cache.read("key") == Speed(3)


def test_tells_whether_it_keeps_anything(tmp_path: Path) -> None:
    assert MachineCache(tmp_path / "new", Speed).keeps
    assert not MachineCache(Path("/proc/none"), Speed).keeps
    assert not MachineCache(None, Speed).keeps
