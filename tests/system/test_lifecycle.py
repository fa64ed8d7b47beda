from __future__ import annotations

import errno
import os
import queue
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.errors import ConfigError
from fedlp_edge.system.lifecycle import (
    EXIT_ERROR,
    EXIT_STOPPED,
    STOP_WITH_STDIN,
    StopSignal,
    own_command,
    process_remedy,
    run_command,
)

WAITS = """
import sys
from fedlp_edge.system.lifecycle import StopSignal
with StopSignal() as stop:
    print("ready", flush=True)
    stop.wait()
    print(stop.reason, flush=True)
    {after}
"""


HANGS_UP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
"""As in a terminal, also where these tests run under ``nohup``."""


@pytest.fixture
def start() -> Iterator[object]:
    children: list[subprocess.Popen[str]] = []

    def _start(after: str = "pass", **environment: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HANGS_UP + WAITS.format(after=after)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield _start
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_on_a_signal(start, number: signal.Signals) -> None:
    child = start()

    child.send_signal(number)

    assert child.communicate(timeout=60)[0] == "signal\n"
    assert child.returncode == 0


def test_outlives_its_terminal_under_nohup() -> None:
    own = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); stop.wait(0.2); stop.set('parent')"
    program = WAITS.format(after="pass").replace("    stop.wait()", f"    {own}")
    done = subprocess.run(
        ["nohup", sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ready\nparent\n"


def test_stops_on_a_signal_that_another_thread_gets_while_the_main_one_waits() -> None:
    own = "import threading, signal; signal.pthread_kill(threading.get_ident(), signal.SIGTERM)"
    program = WAITS.format(after="pass").replace(
        "    stop.wait()", f"    import threading; threading.Timer(0.2, lambda: exec({own!r})).start()\n    stop.wait()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ready\nsignal\n"


def test_ends_at_once_on_a_second_signal(start) -> None:
    child = start(after="sys.stdin.read()")
    child.send_signal(signal.SIGTERM)
    assert child.stdout.readline() == "signal\n"

    child.send_signal(signal.SIGTERM)

    assert child.wait(timeout=60) == 128 + signal.SIGTERM


def test_stops_when_stdin_closes_if_asked_to(start) -> None:
    child = start(**{STOP_WITH_STDIN: "1"})

    assert child.communicate(timeout=60)[0] == "parent\n"


def test_ignores_stdin_unless_asked_to(start) -> None:
    child = start(**{STOP_WITH_STDIN: "0"})
    child.stdin.close()
    child.stdin = None

    child.send_signal(signal.SIGINT)

    assert child.communicate(timeout=60)[0] == "signal\n"


def test_calls_back_once_and_restores_handlers() -> None:
    calls: queue.SimpleQueue[str] = queue.SimpleQueue()
    before = signal.getsignal(signal.SIGTERM)

    with StopSignal(lambda: calls.put("stop")) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls.get(timeout=60) == "stop"
        stop.set()

    assert stop.is_set()
    assert stop.reason == "signal"
    assert calls.empty()
    assert signal.getsignal(signal.SIGTERM) == before


def test_turns_an_error_into_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ConfigError("fleet.toml:3: wrong")

    assert run_command(command) == EXIT_ERROR
    assert capfd.readouterr().err == "error: fleet.toml:3: wrong\n"


def test_ends_with_130_on_an_interrupt() -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run_command(command) == EXIT_STOPPED


def test_passes_on_the_exit_code() -> None:
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 7) == 7


def test_lets_a_defect_keep_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_ends_quietly_when_the_reader_of_its_output_is_gone() -> None:
    program = (
        "import sys\nfrom fedlp_edge.system.lifecycle import run_command\n"
        "def command():\n    sys.stdin.readline()\n    print('x' * 100000, flush=True)\nsys.exit(run_command(command))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.close()
    child.stdout = None

    _, errors = child.communicate("go\n", timeout=60)

    assert (child.returncode, errors) == (1, "")


def test_names_a_command_by_its_path_where_it_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fedlp").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert own_command() == "bin/fedlp"
    assert own_command("fedlp-elsewhere") == "fedlp-elsewhere"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert own_command() == "fedlp"


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "make room"), (errno.EROFS, "can be written to"), (errno.EACCES, "access")]
)
def test_says_in_one_line_what_the_disk_refuses(number: int, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/runs/x")

    assert run_command(fail) == EXIT_ERROR
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: /runs/x: {os.strerror(number)}; ")
    assert words in line


def test_says_that_it_was_stopped_before_anything_listens(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert run_command(lambda: os.kill(os.getpid(), signal.SIGINT)) == EXIT_STOPPED
    assert capfd.readouterr().err == "Stopped.\n"
    assert signal.getsignal(signal.SIGINT) == before


LOSES_ITS_READER = """
import os, sys
from fedlp_edge.reporting.console import open_console
from fedlp_edge.system.lifecycle import output_may_end, run_command

PRINT = {"print": print, "console": open_console().print}[sys.argv[1]]

def command() -> int:
    for line in range(1000):
        with output_may_end():
            PRINT("line", line)
    print("all done", file=sys.stderr)
    return 7

sys.exit(run_command(command))
"""


@pytest.mark.parametrize("printer", ["print", "console"])
@pytest.mark.parametrize("output", ["| head -n 1", "> /dev/full"])
def test_service_goes_on_when_nobody_takes_its_output_any_more(output: str, printer: str) -> None:
    line = f"{{ {shlex.quote(sys.executable)} -c {shlex.quote(LOSES_ITS_READER)} {printer}; echo $? >&2; }} {output}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "all done\n7\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, "error: x: Too many open files; allow this process more open files (ulimit -n"),
        (errno.ESTALE, "error: x: Stale file handle; mount the share or disk that holds it again"),
    ],
)
def test_what_the_machine_lacks_is_one_line(capfd: pytest.CaptureFixture[str], number: int, words: str) -> None:
    def command() -> int:
        raise OSError(number, os.strerror(number), "x")

    assert run_command(command) == EXIT_ERROR
    assert capfd.readouterr().err.startswith(words)


def test_want_of_threads_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise RuntimeError("can't start new thread")

    assert run_command(command) == EXIT_ERROR
    assert capfd.readouterr().err == (
        "error: the system starts no further thread for this program: allow more processes and threads (ulimit -u, "
        "TasksMax= of a service, --pids-limit of a container); Docker before 20.10.10 lets programs of newer images "
        "start none: update it, or --security-opt seccomp=unconfined\n"
    )

    def defect() -> int:
        raise RuntimeError("dictionary changed size during iteration")

    with pytest.raises(RuntimeError, match="changed size"):
        run_command(defect)


def test_a_process_that_cannot_be_started_is_told_with_its_remedy() -> None:
    assert process_remedy(BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")) == (
        "Resource temporarily unavailable; allow more processes and threads (ulimit -u, TasksMax= of a service, "
        "--pids-limit of a container)"
    )
    assert process_remedy(OSError(errno.ENOMEM, "Cannot allocate memory")) == (
        "Cannot allocate memory; the machine is out of memory"
    )
    assert process_remedy(FileNotFoundError(errno.ENOENT, "No such file or directory")) == "No such file or directory"


PRINTS_INTO_A_FILE = """
import contextlib, os, sys
from fedlp_edge.system.lifecycle import run_command

def command() -> int:
    with open(sys.argv[1], "wb") as file:
        for number in (1, 2):
            with contextlib.suppress(OSError):
                os.write(number, b"of a library")
        print("of this program", flush=True)
        print("of this program", file=sys.stderr, flush=True)
        file.write(b"what belongs there")
    return 7

sys.exit(run_command(command))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_is_printed_into_files_where_standard_streams_are_closed(tmp_path: Path, closed: str) -> None:
    file = tmp_path / "journal"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(PRINTS_INTO_A_FILE)} {shlex.quote(str(file))} {closed}"
    assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False).returncode == 7
    assert file.read_bytes() == b"what belongs there"


def test_a_terminal_without_the_signs_gets_plain_ones_and_names_as_escapes() -> None:
    assert "depth ▮▮▯, 5 ± 1, Müll\ud800".encode("ascii", "drawn_or_escaped") == rb"depth ##., 5 ~ 1, M\xfcll\ud800"
