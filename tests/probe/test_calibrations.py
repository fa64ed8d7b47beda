from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.probe.calibrations import find_calibration, fingerprint
from fedlp_edge.probe.host import Host
from fedlp_edge.worker.jobs import Calibrated, WorkerOptions

HOST = Host("box", "x86_64", memory_available=10**9, memory_total=2 * 10**9, cores=4.0)
OPTIONS = WorkerOptions(threads=1, device="cpu")


def test_calibrates_once_and_remembers_it(tmp_path: Path) -> None:
    found = find_calibration(HOST, OPTIONS, tmp_path)
    assert found is not None
    assert found.timed
    assert 1.0 <= found.exact <= 1.5
    assert found.base > 0
    (path,) = tmp_path.glob("*.json")
    assert msgspec.json.decode(path.read_bytes(), type=Calibration) == found
    path.write_bytes(msgspec.json.encode(Calibration(base=1.0)))
    assert find_calibration(HOST, OPTIONS, tmp_path) == Calibration(base=1.0)


def test_fingerprint_changes_with_the_machine_and_the_threads() -> None:
    same = fingerprint(HOST, OPTIONS)
    assert fingerprint(HOST, WorkerOptions(threads=1, device="cpu", memory_bytes=1)) == same
    others = [
        fingerprint(Host("box", "x86_64", memory_available=1, memory_total=10**9, cores=2.0), OPTIONS),
        fingerprint(Host("box", "aarch64", memory_available=1, memory_total=2 * 10**9, cores=4.0), OPTIONS),
        fingerprint(HOST, WorkerOptions(threads=2, device="cpu")),
    ]
    assert len({same, *others}) == 4


def test_goes_without_a_calibration_where_no_worker_can_be_measured() -> None:
    # On a machine that has CUDA, whose allocator is PyTorch's own, the built-in numbers are the answer.
    assert find_calibration(HOST, WorkerOptions(threads=1, device="cuda"), None) in (None, Calibration())


@pytest.mark.parametrize(
    ("directory", "words"),
    [
        (
            Path("/proc/none"),
            "every start, since /proc/none cannot be written to: name a directory with FEDLP_CACHE_DIR",
        ),
        (None, "every start, since this user has no home directory: name a directory with FEDLP_CACHE_DIR"),
    ],
)
def test_says_that_it_measures_at_every_start_where_nothing_can_be_kept(
    directory: Path | None, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "fedlp_edge.worker.process.WorkerProcess.call",
        lambda *_, **__: Calibrated(calibration=Calibration(), torch="2"),
    )
    with caplog.at_level("INFO"):
        assert find_calibration(HOST, OPTIONS, directory) == Calibration()
    assert words in caplog.text
