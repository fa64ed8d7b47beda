"""Forks worker processes of tests from a process that has loaded torch, so that not each of them has to.

It loads torch when it is first asked to fork, and with ``--all`` before that, with torch's exporter to ONNX.

Run as ``python -P server.py SOCKET [--all]``; it ends, and all that it forked, when its standard input is closed. A
forked process runs the real entry point with the arguments, environment, descriptors, limits and directory of the
process that asks (``sitecustomize``): it imports all of our own code itself, and differs only in that torch is there
already. Whatever cannot be given to a forked process makes the server refuse, and the process starts by itself. Tests
that are about starting have the mark ``real_start``.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

_AT_START = (
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "MALLOC_",
    "LD_",
    "CUDA_",
    "TORCH",
    "PYTORCH_",
    "PYTHON",
    "LANG",
    "LC_",
)
"""Beginnings of environment variables that Python, the C library or torch read while they are loaded."""

_LATER = (
    "TORCHDYNAMO_DISABLE",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "TORCHINDUCTOR_CACHE_DIR",
    "PYTHONBREAKPOINT",
)
"""Those that a forked process can still follow, or that say nothing once ``OMP_NUM_THREADS`` is 1.

The last four are set by scikit-learn, torch's compiler and Ray in the process of the test that imports them.
"""

_REQUEST_SECONDS = 10.0


def main() -> None:
    """Forks on request until standard input ends; in a forked process, runs the module that was asked for."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    if "--all" in sys.argv:
        _load(exporter=True)
    asked = Server(listener).serve()
    if asked is not None:
        _become(*asked)
        return
    with contextlib.suppress(OSError):  # whoever started this may have been killed, and leaves it to nobody else
        Path(sys.argv[1]).unlink()
        Path(sys.argv[1]).parent.rmdir()


class Server:
    """The forked processes and who stands for them.

    Args:
        listener: socket on which processes ask.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._poll = select.poll()
        self._processes: dict[int, tuple[int, socket.socket]] = {}
        self._askers: dict[int, int] = {}

    def serve(self) -> tuple[dict[str, Any], list[int]] | None:
        """Returns None at the end, and in each forked process what it was asked for, with its descriptors."""
        self._poll.register(0, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        while True:
            for number, _ in self._poll.poll():
                if number == 0:
                    for process, _ in self._processes.values():
                        os.kill(process, signal.SIGKILL)
                    return None
                if number == self._listener.fileno():
                    asked = self._accept()
                    if asked is not None:
                        return asked
                elif number in self._processes:
                    self._ended(number)
                elif number in self._askers:  # whoever stands for the process was killed
                    os.kill(self._processes[self._askers[number]][0], signal.SIGKILL)
                    self._poll.unregister(number)
                    del self._askers[number]

    def _accept(self) -> tuple[dict[str, Any], list[int]] | None:
        connection, _ = self._listener.accept()
        connection.settimeout(_REQUEST_SECONDS)
        descriptors: list[int] = []
        process = 0
        try:
            head, descriptors, _, _ = socket.recv_fds(connection, 4, 250)
            (size,) = struct.unpack("!I", head)
            request = json.loads(connection.recv(size, socket.MSG_WAITALL))
            if _fits(request):
                process = os.fork()
                if process == 0:
                    return request, descriptors
            connection.sendall(struct.pack("!i", process))
        except (OSError, ValueError, struct.error):
            pass  # whoever asked has ended; what was forked for it is killed as soon as that is noticed
        for descriptor in descriptors:
            os.close(descriptor)
        if not process:
            connection.close()
            return None
        watch = os.pidfd_open(process)
        self._processes[watch] = (process, connection)
        self._askers[connection.fileno()] = watch
        self._poll.register(watch, select.POLLIN)
        self._poll.register(connection, select.POLLIN)
        return None

    def _ended(self, watch: int) -> None:
        process, connection = self._processes.pop(watch)
        _, status = os.waitpid(process, 0)
        self._poll.unregister(watch)
        os.close(watch)
        if self._askers.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("!i", status))
        connection.close()


def _fits(request: dict[str, Any]) -> bool:
    """Whether a process that is forked from this one can be what was asked for; loads torch."""
    ours = _read_at_start(dict(os.environ))
    if request["executable"] != sys.executable or _read_at_start(request["environment"]) != ours:
        return False
    limited_too = "TESTS_TORCH_SERVER_LIMITED" in request["environment"]
    if request["group"] != Path("/proc/self/cgroup").read_text() and not limited_too:
        return False
    if ours.get("OMP_NUM_THREADS") != "1":
        return False
    if "torch" not in sys.modules:
        _load(exporter=False)
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _load(*, exporter: bool) -> None:
    """Loads what takes worker processes seconds, and none of our own code."""
    import torch

    if exporter:
        with contextlib.suppress(ImportError):  # of another version of torch
            import onnxscript.function_libs.torch_lib.ops  # noqa: F401
            import torch._dynamo
            import torch._functorch.partitioners
            import torch.export._trace
            import torch.onnx._internal.exporter._core  # noqa: F401
    gc.collect()
    gc.freeze()  # so that collections in forked processes copy no memory


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """The variables that were read when this process was loaded, and can no longer be changed."""
    return {name: value for name, value in environment.items() if name.startswith(_AT_START) and name not in _LATER}


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Takes over everything that the process which asked was given, and runs its module."""
    targets = request["descriptors"]
    spare = max([300, *targets]) + 1
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, spare) for descriptor in descriptors]
    os.closerange(0, spare)
    for descriptor, target in zip(kept, targets, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    for limit, values in request["limits"]:
        if resource.getrlimit(limit) != tuple(values):
            resource.setrlimit(limit, values)
    os.sched_setaffinity(0, request["cores"])
    os.nice(request["nice"] - os.nice(0))
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])

    import numpy as np

    np.random.seed()
    sys.orig_argv[:] = request["command"]
    sys.argv[:] = ["-m", *request["command"][4:]]
    sys.path[:] = request["path"]
    importlib.invalidate_caches()
    sys.stdout.reconfigure(write_through="PYTHONUNBUFFERED" in os.environ)  # type: ignore[union-attr]
    runpy.run_module(request["command"][3], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
