"""This machine's calibration: from the last time, or found now by a worker that is thrown away.

Training in general does not change from one start of an agent to the next, so what was found is kept beside other
caches of the user, in one file for each kind of machine and number of threads. Another processor,
another number of cores or another PyTorch has another file: whatever changes is measured anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from fedlp_edge.core.calibration import Calibration
from fedlp_edge.errors import WorkerError
from fedlp_edge.probe.host import Host
from fedlp_edge.worker.jobs import Calibrate, Calibrated, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger(__name__)

_SECONDS = 300.0
_REVISION = 1
"""Of the trials: one more makes every machine measure again."""


def find_calibration(host: Host, options: WorkerOptions, directory: Path | None) -> Calibration | None:
    """The machine's calibration.

    Args:
        host: the machine.
        options: of the worker that will train; its threads count.
        directory: where calibrations are kept; None keeps none.

    Returns:
        None where trials fail; plans then rest on the built-in numbers and on the measured speed.
    """
    path = None if directory is None else directory / f"{fingerprint(host, options)}.json"
    with _alone(directory):
        if path is not None and (kept := _read(path)) is not None:
            return kept
        log.info("finding out what this machine adds to what training takes; the next start will know")
        try:
            # Without the budget of a profile: the trials are to see the machine.
            with WorkerProcess(WorkerOptions(threads=options.threads, device=options.device)) as worker:
                found = worker.call(Calibrate(), timeout=_SECONDS)
        except WorkerError as error:
            log.warning("no calibration (%s); plans rest on built-in numbers", error)
            return None
        if not isinstance(found, Calibrated):
            return None
        if path is not None:
            _write(path, found.calibration)
        return found.calibration


def fingerprint(host: Host, options: WorkerOptions) -> str:
    """Changes with everything that changes a calibration."""
    parts = (
        _REVISION,
        host.architecture,
        _processor(),
        host.cores,
        options.threads,
        options.device,
        _torch_version(),
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def default_directory() -> Path | None:
    """``$FEDLP_CACHE_DIR/calibration``, else ``~/.cache/fedlp-edge/calibration``; None for a user without a home."""
    if named := os.environ.get("FEDLP_CACHE_DIR"):
        return Path(named) / "calibration"
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return home / "fedlp-edge" / "calibration"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "CPU part"):
                return value.strip()
    return platform.processor()


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _read(path: Path) -> Calibration | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError):
        return None  # unknown, or damaged and found again


def _write(path: Path, calibration: Calibration) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(msgspec.json.encode(calibration))
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(directory: Path | None) -> Iterator[None]:
    """Agents that start together measure one after the other, and all but the first read what it found."""
    descriptor = None
    with contextlib.suppress(OSError):
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
