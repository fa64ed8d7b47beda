"""This module finds out, without loading PyTorch, whether the installed PyTorch runs on this processor.

The kernel kills a process that uses an instruction which the processor lacks, without an error message. So this module
writes the messages, before and after such a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

WITHOUT_LSE = "2.9.1"
"""Version of the last PyTorch whose builds are known to train on 64-bit ARM cores without LSE atomics, as in
``deploy/constraints-armv8.0.txt``."""

_AT_HWCAP = 16
_HWCAP_ATOMICS = 1 << 8
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd4f": "Neoverse-V2",
}
"""Names of ARM cores by their part number."""


@cache
def cpu_flags() -> frozenset[str]:
    """Returns the CPU features that ``/proc/cpuinfo`` lists; empty if it lists none."""
    return frozenset(_cpuinfo("flags", "features").split())


@cache
def processor_name() -> str:
    """Returns the processor's name, for people."""
    if name := _cpuinfo("model name"):
        return name
    part = _cpuinfo("cpu part")
    core = _ARM_CORES.get(part.lower(), f"an ARM core, part {part}" if part else "")
    return core or _cpuinfo("model") or platform.processor() or platform.machine()


def torch_version() -> str:
    """Returns the version of the installed PyTorch; empty if none is installed."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def lacks_lse_atomics() -> bool:
    """Returns whether this is a 64-bit ARMv8.0 core, as on a Raspberry Pi 3 or 4; False if unknown.

    The auxiliary vector (``getauxval``) counts before ``/proc/cpuinfo``, which an emulated machine may copy from its
    host.
    """
    if platform.machine() not in ("aarch64", "arm64"):
        return False
    if hwcap := _hwcap():
        return not hwcap & _HWCAP_ATOMICS
    return bool(cpu_flags()) and "atomics" not in cpu_flags()


def torch_warning() -> str | None:
    """Returns why the installed PyTorch is known to crash on this processor, with a remedy; None if it is not."""
    installed = torch_version()
    if not lacks_lse_atomics() or _numbers(installed) <= _numbers(WITHOUT_LSE):
        return None
    return (
        f"this processor ({processor_name()}) has no LSE atomics, and PyTorch {installed} is known to be ended by"
        f" SIGILL on such cores: {install_hint()}"
    )


def install_hint() -> str:
    """Returns what to install on a processor on which PyTorch crashes."""
    if lacks_lse_atomics():
        return "pip install --constraint deploy/constraints-armv8.0.txt (docs/devices.md has the line of each board)"
    return f'install another version of PyTorch, such as pip install "torch=={WITHOUT_LSE}"'


def _numbers(text: str) -> tuple[int, ...]:
    """Returns the first three numbers of a version; none of an unreadable one, which then counts as oldest."""
    numbers = []
    for part in text.partition("+")[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _cpuinfo(*names: str) -> str:
    """Returns the first value of one of these keys in ``/proc/cpuinfo``; empty if there is none."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in names and value.strip():
                return value.strip()
    return ""


def _hwcap() -> int:
    """Returns the hardware capability bits of ``getauxval``; 0 if it is not available."""
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return 0
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    return int(getauxval(_AT_HWCAP))
