from __future__ import annotations

import errno

import psutil
import pytest

from fedlp_edge.probe.neighbours import count_agents, other_agents


def test_counts_agents_by_their_commands():
    commands = [
        ["/venv/bin/python", "/venv/bin/fedlp-agent", "--fleet", "shop"],
        ["python3", "-P", "-m", "device_agent", "--fleet", "shop"],
        ["fedlp-agent"],
        ["python", "-m", "coordinator"],
        ["less", "-m", "logs", "fedlp-agent"],
        ["journalctl", "-u", "fedlp-agent.service"],
        [],
    ]
    assert count_agents(commands) == 3


def test_processes_that_cannot_be_seen_are_no_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(psutil, "process_iter", fail)
    assert other_agents() == 0
