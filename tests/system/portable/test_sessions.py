from __future__ import annotations

import signal
import subprocess

import psutil

from fedlp_edge.system.portable.sessions import end_session, own_session


def test_what_a_child_has_started_ends_with_its_session() -> None:
    command = ["sh", "-c", "sleep 60 & echo $!; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **own_session()) as child:
        assert child.stdout is not None
        grandchild = psutil.Process(int(child.stdout.readline()))
        end_session(child)
        assert child.wait(10) == -signal.SIGKILL
        psutil.wait_procs([grandchild], timeout=10)
        assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    end_session(child)
