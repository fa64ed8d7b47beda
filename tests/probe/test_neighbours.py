from __future__ import annotations

from fedlp_edge.probe.neighbours import count_agents


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
