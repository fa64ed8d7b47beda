"""This machine's calibration: from the last time, or found now by a worker that is thrown away.

Training in general does not change from one start of an agent to the next, so what was found is kept beside other
caches of the user, in one file for each kind of machine and number of threads. Another processor,
another number of cores or another PyTorch has another file: whatever changes is measured anew.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.errors import WorkerError
from fedlp_edge.probe.host import Host
from fedlp_edge.system.machine_cache import MachineCache
from fedlp_edge.system.processor_info import processor_name, torch_version
from fedlp_edge.worker.jobs import Calibrate, Calibrated, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger(__name__)

_SECONDS = 300.0
_REVISION = 3
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
    cache, key = MachineCache(directory, Calibration), fingerprint(host, options)
    with cache.alone(_SECONDS):
        if (kept := cache.read(key)) is not None:
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
        cache.write(key, found.calibration)
        return found.calibration


def fingerprint(host: Host, options: WorkerOptions) -> str:
    """Changes with everything that changes a calibration."""
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
