"""What processor this is, as far as it decides which PyTorch runs on it: found out without loading PyTorch.

A library that uses an instruction which the processor lacks is ended by the kernel, without a word. So the words are
made here, before and after.
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
"""The last PyTorch whose builds are known to train on 64-bit ARM cores without LSE atomics; that of
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
"""By the number that an ARM core calls its part."""


@cache
def cpu_flags() -> frozenset[str]:
    """What the kernel says that this CPU can do; empty where it says nothing."""
    return frozenset(_cpuinfo("flags", "features").split())


@cache
def processor_name() -> str:
    """The processor's name, for people."""
    if name := _cpuinfo("model name"):
        return name
    part = _cpuinfo("cpu part")
    core = _ARM_CORES.get(part.lower(), f"an ARM core, part {part}" if part else "")
    return core or _cpuinfo("model") or platform.processor() or platform.machine()


def torch_version() -> str:
    """Of the PyTorch that is installed; empty if none is."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def lacks_lse_atomics() -> bool:
    """Whether this is a 64-bit ARM core of the first generation (ARMv8.0), as on a Raspberry Pi 3 or 4; no if unknown.

    The kernel's word to this process counts before ``/proc/cpuinfo``, which an emulated machine may take from its host.
    """
    if platform.machine() not in ("aarch64", "arm64"):
        return False
    if hwcap := _hwcap():
        return not hwcap & _HWCAP_ATOMICS
    return bool(cpu_flags()) and "atomics" not in cpu_flags()


def torch_warning() -> str | None:
    """Why the PyTorch that is installed is known to end on this processor, and what to install; None if it is not."""
    installed = torch_version()
    if not lacks_lse_atomics() or _numbers(installed) <= _numbers(WITHOUT_LSE):
        return None
    return (
        f"this processor ({processor_name()}) has no LSE atomics, and PyTorch {installed} is known to be ended by"
        f" SIGILL on such cores: {install_words()}"
    )


def install_words() -> str:
    """What to install on a processor on which PyTorch crashes."""
    if lacks_lse_atomics():
        return "pip install --constraint deploy/constraints-armv8.0.txt (docs/devices.md has the line of each board)"
    return f'install another version of PyTorch, such as pip install "torch=={WITHOUT_LSE}"'


def _numbers(text: str) -> tuple[int, ...]:
    """The first three numbers of a version; of an unreadable one none, which is older than all."""
    numbers = []
    for part in text.partition("+")[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _cpuinfo(*names: str) -> str:
    """The first value that the kernel gives under one of these names."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in names and value.strip():
                return value.strip()
    return ""


def _hwcap() -> int:
    """The kernel's word on what this processor can do; 0 if there is none."""
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return 0
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    return int(getauxval(_AT_HWCAP))
