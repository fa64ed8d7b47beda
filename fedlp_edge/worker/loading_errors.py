"""This module knows what to do where a library of native code cannot be loaded, as PyTorch's are on many boards."""

from __future__ import annotations

import re

_REMEDIES = (
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
)
"""Patterns of what the loader says, the first one that fits first, with what to do."""


def loading_remedy(said: str) -> str:
    """Returns what to do where a library cannot be loaded; empty if that is not what was said.

    Args:
        said: Last line of a process that has ended, such as ``ImportError: libtorch_cpu.so: failed to map ...``.
    """
    if not said.startswith(("ImportError:", "OSError:")):
        return ""
    for pattern, remedy in _REMEDIES:
        if found := re.search(pattern, said):
            return remedy.format(**found.groupdict())
    return ""
