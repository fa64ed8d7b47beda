"""This module knows what to do where an installed package cannot be loaded, as those of native code on many boards."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

from fedlp_edge.system.loading.install_command import install_command

_PARENT = Path(__file__).parents[3]
_OWN = frozenset({"fedlp_edge", "coordinator", "device_agent"})

_LOADER = ("ImportError:", "OSError:")
"""Beginnings of what is said where the loader of the system has failed."""

_REMEDIES_OF_LIBRARIES = (
    (
        r"(?P<library>\S+): cannot allocate memory in static TLS block",
        "start with LD_PRELOAD={library} in the environment, as this library has to be loaded first",
    ),
    (
        r"failed to map segment from shared object: Operation not permitted",
        "the file system that it is installed on is mounted noexec; install it on another one",
    ),
    (
        r"failed to map segment from shared object|[Cc]annot allocate memory",
        "it does not fit into the address space that this process may have; raise that limit (ulimit -v, LimitAS= in a "
        "service), or leave it out",
    ),
    (
        r"(?P<library>\S+): cannot open shared object file",
        "install the package of the system that has {library}",
    ),
    (
        r"version [`'](?P<library>GLIBC\w*)[^ ]*' not found",
        "it is built for a newer system than this one; docs/devices.md says which boards need which",
    ),
    (
        r"undefined symbol",
        "it is built for another version of a library that it uses; install both anew, in one command",
    ),
    (
        r"DLL load failed|\[WinError (126|127|1114)\]",
        "install Microsoft's Visual C++ Redistributable (x64), which it needs",
    ),
)
"""Patterns of what the loader says, the first one that fits first, with what to do."""

_REMEDIES_OF_PACKAGES = (
    (
        r"NumPy was built with baseline optimizations.*X86_V\d",
        "the processor, or what a virtual machine shows of it, lacks instructions that this NumPy is built for; give "
        "the virtual machine the type of its host's processor (in Proxmox: host), or install 'numpy<2.4'",
    ),
    (
        r"operator torchvision::\w+ does not exist",
        "torch and torchvision are not built for each other; install both anew in one command, from one index",
    ),
    (
        r"numpy\.dtype size changed|numpy\.core\.multiarray failed to import|compiled using NumPy 1\.x",
        "it is built for another version of NumPy; update it",
    ),
    (
        r"multiple copies of the OpenMP runtime",
        "packages of conda and of PyPI are mixed, each with an OpenMP of its own; install all anew from one of the two",
    ),
    (
        r"symbol lookup error",
        "it is built for another version of a library that it uses; install both anew, in one command",
    ),
    (
        r"(Could not load library|Unable to load any of) .*libcu",
        "LD_LIBRARY_PATH names libraries of NVIDIA that do not fit to those of PyTorch; start without it, as in: env "
        "-u LD_LIBRARY_PATH",
    ),
)
"""Patterns of what packages say themselves where they cannot be loaded, with what to do."""


def loading_remedy(said: str) -> str:
    """Returns what to do where a package cannot be loaded; empty if that is not what was said.

    Args:
        said: Type and text of an exception in one line, such as ``ImportError: libtorch_cpu.so: failed to map ...``.
    """
    known = (*_REMEDIES_OF_PACKAGES, *(_REMEDIES_OF_LIBRARIES if said.startswith(_LOADER) else ()))
    for pattern, remedy in known:
        if found := re.search(pattern, said):
            return str(remedy).format(**found.groupdict())
    return ""


def loading_failure(error: Exception) -> str:
    """Returns one line about a package that cannot be loaded, and what to do; empty if the error says something else.

    Args:
        error: What importing a package has raised.
    """
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    module, remedy = _module(error), loading_remedy(said)
    if remedy:
        return f"{_distribution(module) or module or 'a package'} cannot be loaded ({said}): {remedy}"
    if not isinstance(error, ImportError) or not module or module in _OWN:
        return ""
    if module in sys.stdlib_module_names:
        return (
            f"this Python ({sys.executable}) was built without {module}, for which a library was missing then: "
            "install the system's development packages (liblzma-dev, libbz2-dev, libsqlite3-dev, libffi-dev) and build "
            "it again, or take the Python of the system"
        )
    package = _distribution(module)
    if not package:
        what_to_do = install_command("all") if _is_ours(error) else "install it there"
        return f"{module} is not installed for {sys.executable}: {what_to_do}"
    return f"{package} is installed, but cannot be loaded ({said}): pip install --force-reinstall {package}"


def _module(error: Exception) -> str:
    """Returns the name of the package that cannot be loaded, as programs import it; empty if nothing tells."""
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        for place in ("site-packages", "dist-packages"):
            if place in parts[:-1]:
                module = parts[parts.index(place) + 1].removesuffix(".py")
                return "" if module in _OWN else module
    return ""


def _distribution(module: str) -> str:
    """Returns what a package is called where it is installed from, such as pillow for PIL; empty if it is missing."""
    from importlib.metadata import packages_distributions  # noqa: PLC0415 - takes 20 ms of every start

    return next(iter(packages_distributions().get(module, [])), "")


def _is_ours(error: ImportError) -> bool:
    """Tells whether this program imports what is missing, and not code of a user or of another package."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(Path(frames[-1].filename).is_relative_to(_PARENT / name) for name in _OWN)
