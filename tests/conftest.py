"""Fixtures for every part; the brokers are real."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Every run tries the same examples, so that a failure is somebody's change and not chance. To search for new ones:
# pytest --hypothesis-profile=search
# No example has a deadline: on a busy machine any of them may be held up.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("same")

# While tests are collected, objects only become more; looking through them again and again takes half of the time.
gc.disable()
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As in an activated environment: messages then name our commands without a path.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# Hundreds of processes import these packages; forbidden to keep what they compile, each would compile all of it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for _name in [name for name in os.environ if name.startswith("FEDLP_")]:
    del os.environ[_name]  # a developer's own broker must not leak into tests

from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker  # noqa: E402 - after the environment is set

AT_START = dict(os.environ)
"""The environment before any test has run; some libraries change it when they are imported."""

TORCH_SERVER = Path(__file__).parent / "torch_server"
SERVER = "TESTS_TORCH_SERVER"

SLOW = (
    "cli/demo/test_launch",
    "simulation/engines/test_ray",
    "fleets/",
    "field/",
    "worker/",
    "benchmarks/",
    "cli/",
    "learning/",
    "simulation/",
)
"""Beginnings of the files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow files first, so that of several processes none begins a long file when the others are done."""
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        file = item.path.relative_to(tests).as_posix() if item.path.is_relative_to(tests) else ""
        return next((place for place, beginning in enumerate(SLOW) if file.startswith(beginning)), len(SLOW))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Exempts what has been imported from garbage collection, which begins now."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Starts the server that forks worker processes with torch loaded, one for all processes that run tests."""
    if hasattr(config, "workerinput") or not hasattr(os, "pidfd_open"):
        return
    directory = tempfile.TemporaryDirectory(prefix="torch-server-")
    socket = f"{directory.name}/socket"
    everything = ["--all"] if config.getoption("numprocesses", None) else []  # of many tests, some will need all
    server = subprocess.Popen(
        [sys.executable, "-P", str(TORCH_SERVER / "server.py"), socket, *everything],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        server.communicate()
        directory.cleanup()

    config.add_cleanup(end)
    os.environ[SERVER] = socket
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TORCH_SERVER), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(autouse=True)
def real_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the processes that a test with the mark ``real_start`` starts load torch themselves, as a user's do."""
    if request.node.get_closest_marker("real_start"):
        monkeypatch.delenv(SERVER, raising=False)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a machine remembers between runs, such as how it computes fastest, these tests find out for themselves.

    Processes that run tests side by side are one machine, and share what any of them found out.
    """
    directory = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        directory = directory.parent
    os.environ["FEDLP_CACHE_DIR"] = str(directory / "fedlp-cache")


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[MosquittoBroker]:
    """A running Mosquitto with its default limits, shared by all tests: use topics of your own.

    Fails, and does not skip, where Mosquitto is not installed: it is part of what the product promises.
    """
    with MosquittoBroker() as broker:
        yield broker
