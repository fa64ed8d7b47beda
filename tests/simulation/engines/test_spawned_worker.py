from __future__ import annotations

import socket
import subprocess
import sys

PROGRAM = """
import sys, types

local_worker = types.ModuleType("local_worker")  # which would load torch
local_worker.prepare = lambda: None
local_worker.serve = lambda end: end.sendall(end.recv(9) + b", too")
sys.modules["fedlp_edge.simulation.engines.local_worker"] = local_worker

from fedlp_edge.simulation.engines.spawned_worker import main

main()
"""


def started() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", PROGRAM, str(theirs.fileno())]
        return ours, subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])


def test_serves_the_simulation_at_the_other_end() -> None:
    ours, process = started()
    with ours, process:
        ours.sendall(b"here")
        assert ours.recv(99) == b"here, too"
        assert process.wait(30) == 0


def test_ends_with_its_standard_input_though_it_has_work() -> None:
    ours, process = started()
    with ours, process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert ours.recv(99) == b""
