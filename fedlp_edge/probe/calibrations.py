"""This module gets the machine's calibration, from a cache file or by measuring it in a temporary worker process.

A calibration stays valid between two starts of an agent, so it is stored in the user's cache directory. A change of
processor, number of cores, number of threads or version of PyTorch leads to another file, and so to a new measurement.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.errors import WorkerError
from fedlp_edge.probe.host import Host
from fedlp_edge.system.machine_cache import CACHE_DIR, MachineCache
from fedlp_edge.system.processor_info import processor_name, torch_version
from fedlp_edge.worker.jobs import Calibrate, Calibrated, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger(__name__)

_SECONDS = 300.0  # limit of a calibration, and of the wait for another agent's
_REVISION = 3
"""Revision of the calibration trials; raising it makes every machine measure again."""


def find_calibration(host: Host, options: WorkerOptions, directory: Path | None) -> Calibration | None:
    """Returns the machine's calibration, read from the cache or measured now.

    Args:
        host: The machine as probed.
        options: Options of the worker that will train; its number of threads and its device affect the calibration.
        directory: Cache directory for calibrations; None disables the cache.

    Returns:
        The calibration; None if the trials fail, and plans then use built-in numbers and the measured speed.
    """
    cache, key = MachineCache(directory, Calibration), fingerprint(host, options)
    with cache.locked(_SECONDS):
        if (kept := cache.read(key)) is not None:
            return kept
        forgets = f"{directory} cannot be written to" if directory is not None else "this user has no home directory"
        lasting = f"and so does every start, since {forgets}: name a directory with {CACHE_DIR}"
        known = "the next start will know" if cache.keeps else lasting
        log.info("finding out what this machine adds to what training takes; %s", known)
        try:
            # The worker gets no memory budget of a profile, because the trials measure the machine itself.
            with WorkerProcess(WorkerOptions(threads=options.threads, device=options.device)) as worker:
                found = worker.call(Calibrate(), timeout=_SECONDS)
        except WorkerError as error:
            log.warning("no calibration (%s); plans rest on built-in numbers", error)
            return None
        if not isinstance(found, Calibrated):
            return None
        cache.write(key, found.calibration)
        return found.calibration


def fingerprint(host: Host, options: WorkerOptions) -> str:
    """Returns the cache key of a calibration, a hash of everything that affects what is measured."""
    parts = (
        _REVISION,
        host.architecture,
        processor_name(),
        host.cores,
        options.threads,
        options.device,
        torch_version(),
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]
