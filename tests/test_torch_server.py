"""A process that the torch server forks is what the process that asked would have been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import AT_START, SERVER, TORCH_SERVER
from tests.torch_server.sitecustomize import LIMITED_TOO

ENTRY_POINT = "fedlp_edge.worker.main"

STAND_IN = '''
"""In the place of the real entry point: says what it was given."""
import json, os, signal, sys, time

given = json.loads(sys.argv[1])
if given["do"] == "say":
    print(json.dumps({
        "arguments": sys.argv[1:], "name": __name__, "directory": os.getcwd(), "mine": os.environ.get("MINE"),
        "path": sys.path[-1], "input": sys.stdin.read(), "torch": "torch" in sys.modules,
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "cores": len(os.sched_getaffinity(0)), "written": os.write(int(given["descriptor"]), b"here"),
    }))
    sys.exit(7)
if given["do"] == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
print(os.getpid(), flush=True)
time.sleep(100)
'''


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with another package of the worker's name, which loads no torch by itself."""
    directory = tmp_path_factory.mktemp("stand-in")
    package = directory / "fedlp_edge" / "worker"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.touch()
    (package / "main.py").write_text(STAND_IN)
    return directory


@pytest.fixture
def environment(stand_in: Path) -> dict[str, str]:
    if SERVER not in os.environ:
        pytest.fail("the torch server needs Linux; without it, the suite takes much longer")
    given = {SERVER: os.environ[SERVER], "PYTHONPATH": f"{TORCH_SERVER}{os.pathsep}{stand_in}"}
    return {**AT_START, **given, "TORCHDYNAMO_DISABLE": "1"}


def command(**given: object) -> list[str]:
    return [sys.executable, "-P", "-m", ENTRY_POINT, json.dumps(given)]


@pytest.fixture
def sleeping(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that stands for another one, and the number of that one."""
    with subprocess.Popen(command(do="sleep"), env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            forked = int(process.stdout.readline())
            assert forked != process.pid
            yield process, forked
        finally:
            process.kill()


def ended(process: int) -> bool:
    until = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return not Path(f"/proc/{process}").exists()


def test_gets_all_that_the_process_was_given(environment: dict[str, str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    given = command(do="say", descriptor=writer)
    # The path of this process is no measure: packages that other tests import append to it.
    last_path = subprocess.check_output([sys.executable, "-c", "import sys; print(sys.path[-1])"], text=True).strip()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        done = subprocess.run(
            given,
            input="typed",
            env={**environment, "MINE": "ä\udcff"},
            cwd=tmp_path,
            pass_fds=[writer],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "here"
    # PyTorch's compiler may complain of its own bindings at the end: "nanobind: leaked 4 instances!"
    said_by_us = done.stderr.partition("nanobind:")[0]
    assert (done.returncode, said_by_us) == (7, "")
    said = json.loads(done.stdout)
    assert said.pop("blocked") == sorted(int(number) for number in {*before, signal.SIGUSR1})
    assert said == {
        "arguments": given[4:],
        "name": "__main__",
        "directory": str(tmp_path),
        "mine": "ä\udcff",
        "path": last_path,
        "input": "typed",
        "torch": True,
        "cores": len(os.sched_getaffinity(0)),
        "written": 4,
    }


def test_is_asked_by_a_process_whose_libraries_set_variables_of_their_own(environment: dict[str, str]) -> None:
    set_while_imported = {
        "KMP_INIT_AT_FORK": "FALSE",
        "KMP_DUPLICATE_LIB_OK": "True",
        "TORCHINDUCTOR_CACHE_DIR": "/c",
        "PYTHONBREAKPOINT": "ray.util.rpdb._driver_set_trace",
    }
    done = subprocess.run(
        command(do="say", descriptor=1),
        env={**environment, **set_while_imported},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"torch": true' in done.stdout


def test_forks_a_limited_worker_for_a_test_that_is_not_about_memory(environment: dict[str, str]) -> None:
    done = subprocess.run(
        command(do="say", descriptor=1, memory_bytes=1000),
        env={**environment, LIMITED_TOO: "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"torch": true' in done.stdout


def test_a_crash_is_the_end_of_both(environment: dict[str, str]) -> None:
    assert subprocess.run(command(do="crash"), env=environment, check=False).returncode == -signal.SIGSEGV


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_forked_process(sleeping: tuple[subprocess.Popen[str], int], number: int) -> None:
    process, forked = sleeping
    process.send_signal(number)
    assert process.wait(30) == -number
    assert ended(forked)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"memory_bytes": 1000}, {}),
        ({"process_bytes": 0}, {}),
        ({}, {"OMP_NUM_THREADS": "2"}),
        ({}, {"PYTHONHASHSEED": "5"}),
        ({}, {SERVER: "/nowhere"}),
    ],
    ids=["a limit of training", "a limit of the process", "threads", "a seed", "no server"],
)
def test_starts_by_itself_what_cannot_be_forked(
    environment: dict[str, str], options: dict[str, int], changed: dict[str, str]
) -> None:
    done = subprocess.run(
        command(do="say", descriptor=1, **options),
        env={**environment, **changed},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert '"torch": false' in done.stdout
