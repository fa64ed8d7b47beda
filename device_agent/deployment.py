"""Installing the final model: an ONNX file under its own name, and ``current.onnx`` for whoever infers with it.

The link changes in one step and only after the file has computed something, so an application that opens
``current.onnx`` never finds half a model or a broken one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from device_agent.limits import LIMITS
from fedlp_edge.errors import DeviceError
from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import replace_link, replacing
from fedlp_edge.system.processor_info import processor_name

_LIMITS = LIMITS.final_model


CURRENT = "current.onnx"


def install_model(source: Path, directory: Path, run: str, unit: str) -> Path:
    """Copies a downloaded file into place, tries it, and points ``current.onnx`` at it.

    Args:
        source: The file, its digest already verified.
        directory: Directory of the device's models; made if missing.
        run: Name of the run that trained the model.
        unit: ``onnx-DEPTH``.

    Returns:
        The path of the installed file.

    Raises:
        DeviceError: The file does not load or compute in onnxruntime, or cannot be written.
    """
    make_directory(directory)
    path = directory / f"{run}-depth-{unit.removeprefix('onnx-')}.onnx"
    try:
        with replacing(path) as partial:
            shutil.copyfile(source, partial)
            try_model(partial)
        replace_link(directory / CURRENT, path.name)
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}; make room and start the agent again") from None
    return path


def can_export() -> bool:
    """Whether what makes ONNX files, and tries them, is installed."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def try_model(path: Path) -> bool:
    """Runs a model once on zeros, in a process of its own: native code that crashes must not end the agent.

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
    if done.returncode < 0:
        how = f"onnxruntime was ended by {signal.Signals(-done.returncode).name} on this processor ({processor_name()})"
        raise DeviceError(f"the final model cannot be tried: {how}; install another version of onnxruntime")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
        raise DeviceError(f"the final model {said}")
    return True
