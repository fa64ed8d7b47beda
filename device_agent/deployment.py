"""Stores the final model of a run among the device's versions, once it has computed something.

An application that opens ``current.onnx`` never finds half a model or a broken one, since the link changes in one step
(``installation.version_store``) and only to a file that was tried.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from device_agent.installation.version_store import VersionStore
from device_agent.limits import LIMITS
from fedlp_edge.errors import DeviceError
from fedlp_edge.system.lifecycle import remedy
from fedlp_edge.system.portable.process_ends import signal_of
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.wire.digests import digest_of_file

_LIMITS = LIMITS.final_model


def store_model(source: Path, store: VersionStore, run: str, unit: str) -> str:
    """Tries a downloaded file, and stores it as a version.

    Args:
        source: The file, its digest already verified.
        store: Versions on this device.
        run: Name of the run that trained the model.
        unit: ``onnx-DEPTH``.

    Returns:
        The target of the version, for the link.

    Raises:
        DeviceError: The file does not load or compute in onnxruntime, or cannot be written.
    """
    try_model(source)
    try:
        return store.add(source, f"{run}-depth-{unit.removeprefix('onnx-')}.onnx", digest_of_file(source))
    except OSError as error:
        mended = remedy(error) or "make room there"
        raise DeviceError(f"{store.directory}: {error.strerror}; {mended}, and start the agent again") from None


def can_export() -> bool:
    """Returns whether the packages that make ONNX files and try them are installed."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def try_model(path: Path) -> bool:
    """Runs a model once on zeros in a process of its own, since native code that crashes must not end the agent.

    Returns:
        False if onnxruntime is not installed, so that nothing could be tried.

    Raises:
        DeviceError: The model does not load, or does not compute finite numbers.
    """
    if find_spec("onnxruntime") is None:
        return False
    command = [sys.executable, "-P", "-m", "device_agent.model_trial", str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMITS.trial_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"the final model did not compute anything within {_LIMITS.trial_seconds:g} s") from None
    if name := signal_of(done.returncode):
        how = f"onnxruntime was ended by {name} on this processor ({processor_name()})"
        raise DeviceError(f"the final model cannot be tried: {how}; install another version of onnxruntime")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
        raise DeviceError(f"the final model {said}")
    return True
