from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fedlp_edge.cli.demo.child_processes import Supervisor, exit_error
from fedlp_edge.errors import FedLPError

HEARS = "import sys; print('up', flush=True); sys.stdin.read(); print('bye', flush=True)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); child.wait()"
)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "logs") as supervisor:
        yield supervisor


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def ends(process: psutil.Process, seconds: float = 10.0) -> bool:
    """Waits for a process that is not ours; one that nobody collects stays as a zombie, and has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_hears_the_first_line(supervisor: Supervisor) -> None:
    child, line = supervisor.start_and_read_line("a", python(HEARS), 10.0)

    assert line == "up"
    assert child.exit_code is None


def test_writes_output_to_a_log(supervisor: Supervisor) -> None:
    child = supervisor.start("a", python("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"))

    assert supervisor.wait([child], 10.0) == []

    assert child.exit_code == 3
    assert child.tail(2).splitlines() == ["one", "two"]
    assert child.tail(1) == "two"
    assert str(exit_error(child)) == f"a ended with code 3: two (log: {child.log})"


def test_tells_when_a_process_was_killed(supervisor: Supervisor) -> None:
    child, _ = supervisor.start_and_read_line("a", python(HEARS), 10.0)
    assert child.process is not None

    child.process.kill()
    supervisor.wait([child], 10.0)

    assert str(exit_error(child)) == f"a was killed (SIGKILL); its log is {child.log}"


def test_starts_a_process_again(supervisor: Supervisor) -> None:
    child = supervisor.start("a", python("print('once')"))
    supervisor.wait([child], 10.0)

    supervisor.restart(child)
    supervisor.wait([child], 10.0)

    assert child.restarts == 1
    assert child.tail().splitlines() == ["once", "once"]


def test_fails_if_a_process_ends_before_it_says_anything(supervisor: Supervisor) -> None:
    with pytest.raises(FedLPError, match=r"^broker did not start: no such port \(log: .*broker\.log\)$"):
        supervisor.start_and_read_line("broker", python("import sys; sys.exit('error: no such port')"), 10.0)


def test_fails_if_a_process_says_nothing_in_time(supervisor: Supervisor) -> None:
    with pytest.raises(FedLPError, match=r"^broker did not start; its log is "):
        supervisor.start_and_read_line("broker", python("import sys; sys.stdin.read()"), 0.1)


def test_names_those_that_do_not_end(supervisor: Supervisor) -> None:
    child, _ = supervisor.start_and_read_line("a", python(HEARS), 10.0)

    assert supervisor.wait([child], 0.01) == [child]


def test_kills_what_does_not_want_to_stop(supervisor: Supervisor) -> None:
    child, _ = supervisor.start_and_read_line("a", python(STUBBORN), 10.0)

    supervisor.stop([child], patience=0.1)

    assert child.exit_code == -signal.SIGKILL


def test_ends_grandchildren_as_well(supervisor: Supervisor) -> None:
    child, line = supervisor.start_and_read_line("a", python(PARENT), 10.0)
    grandchild = psutil.Process(int(line))

    supervisor.stop([child])

    assert ends(grandchild)


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom fedlp_edge.cli.demo.child_processes import Supervisor\n"
        "supervisor = Supervisor(Path(sys.argv[1]))\n"
        f"child, _ = supervisor.start_and_read_line('a', [sys.executable, '-c', {HEARS!r}], 10.0)\n"
        "print(child.process.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()

    assert ends(child)
