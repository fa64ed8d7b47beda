"""Has a test's worker process forked from the torch server, so that it need not load torch, which takes seconds.

Python imports this module when it starts, in every process that a test starts: ``tests/conftest.py`` puts its directory
on ``PYTHONPATH``. A worker process then gives the server everything that it was given (descriptors, arguments,
environment, limits), has it fork a process that runs the same entry point, and stands for that process until its end.
The process from which a simulation forks its own workers does the same. Any other process, and a worker that the server
refuses, goes on and starts by itself.
"""

import os
import sys

SERVER = "TESTS_TORCH_SERVER"
"""Environment variable: path of the server's socket; without it, all processes start by themselves."""

_ENTRY_POINTS = ("fedlp_edge.worker.main", "fedlp_edge.simulation.engines.local_worker")

LIMITED_TOO = "TESTS_TORCH_SERVER_LIMITED"
"""Environment variable of tests that are not about memory: set, workers with a limit of it, or in a control
group of their own, may be forked as well."""

_LIMITS = ("memory_bytes", "process_bytes", "memory_group")
"""Options of a worker that counts the memory which it has mapped; a forked one would count what the server mapped."""


def _may_be_forked() -> bool:
    if len(sys.orig_argv) != 5 or sys.orig_argv[1:3] != ["-P", "-m"] or sys.orig_argv[3] not in _ENTRY_POINTS:
        return False
    if LIMITED_TOO in os.environ:
        return True
    import json

    options = json.loads(sys.orig_argv[4])
    return not isinstance(options, dict) or all(options.get(name) is None for name in _LIMITS)


def _stand_for_forked_process(server: str) -> None:
    """Returns if the server is not there, or refuses; otherwise ends this process as the forked one ends."""
    import contextlib
    import json
    import resource
    import signal
    import socket
    import struct
    from pathlib import Path

    own = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    descriptors = []
    for number in own:
        with contextlib.suppress(OSError):  # the directory that was listed
            if os.get_inheritable(number):
                descriptors.append(number)
    umask = os.umask(0)
    os.umask(umask)
    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    request = json.dumps(
        {
            "executable": sys.executable,
            "command": sys.orig_argv,
            "path": sys.path,
            "directory": str(Path.cwd()),
            "environment": dict(os.environ),
            "descriptors": descriptors,
            "umask": umask,
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            "cores": sorted(os.sched_getaffinity(0)),
            "nice": os.nice(0),
            "limits": [(limit, resource.getrlimit(limit)) for limit in limits],
            "group": Path("/proc/self/cgroup").read_text(),
        }
    ).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(server)
        socket.send_fds(connection, [struct.pack("!I", len(request))], descriptors)
        connection.sendall(request)
        (process,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))
    except (OSError, struct.error):
        connection.close()
        return
    if not process:
        connection.close()
        return
    for number in descriptors:
        os.close(number)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(process, number))
    (status,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL).rjust(4, b"\1"))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL needs no default action
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)


if SERVER in os.environ and _may_be_forked():
    _stand_for_forked_process(os.environ[SERVER])
