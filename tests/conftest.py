"""Fixtures for every part; the brokers are real."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Every run tries the same examples, so that a failure is somebody's change and not chance. To search for new ones:
# pytest --hypothesis-profile=search
settings.register_profile("same", derandomize=True)
settings.register_profile("search", max_examples=2000)
settings.load_profile("same")

os.environ.setdefault("OMP_NUM_THREADS", "1")
# As in an activated environment: messages then name our commands without a path.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
for _name in [name for name in os.environ if name.startswith("FEDLP_")]:
    del os.environ[_name]  # a developer's own broker must not leak into tests

from fedlp_edge.transport.mosquitto import MosquittoBroker  # noqa: E402 - after the environment is set


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a machine remembers between runs, such as how it computes fastest, these tests find out for themselves."""
    os.environ["FEDLP_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[MosquittoBroker]:
    """A running Mosquitto with its default limits, shared by all tests: use topics of your own.

    Fails, and does not skip, where Mosquitto is not installed: it is part of what the product promises.
    """
    with MosquittoBroker() as broker:
        yield broker
