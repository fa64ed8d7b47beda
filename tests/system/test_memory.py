"""How much memory there is where the system tells little of it."""

from __future__ import annotations

import os
import warnings
from collections import namedtuple

import psutil
import pytest

from fedlp_edge.probe.host import probe_host
from fedlp_edge.system.memory import system_memory

Memory = namedtuple("Memory", ["total", "available"])


def test_where_proc_is_hidden_the_c_library_tells_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000, "SC_AVPHYS_PAGES": 400}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert system_memory() == (4_096_000, 1_638_400)


def test_a_machine_that_hides_its_load_and_swap_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise OSError("hidden")

    monkeypatch.setattr(psutil, "getloadavg", hidden)
    monkeypatch.setattr(psutil, "swap_memory", hidden)
    host = probe_host()
    assert (host.load, host.swap_free) == (0.0, 0)


def test_a_container_that_tells_a_part_of_its_memory_gets_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def partly() -> Memory:
        warnings.warn("buffers, cached memory stats couldn't be determined", RuntimeWarning, stacklevel=1)
        return Memory(500, 200)

    monkeypatch.setattr(psutil, "virtual_memory", partly)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert system_memory() == (500, 200)
