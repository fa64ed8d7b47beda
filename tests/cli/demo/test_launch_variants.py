"""The demo as people start it: every device contributes in every round, whatever processor this is.

Four devices have all the profiles that a demo gives; ``test_demo`` shows the same of shares of one size.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.system
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("options", "devices"),
    [
        ("--rounds 2 --partition dirichlet:0.3", 5),
        ("--rounds 2 --devices 4 --scheme fedavg --data fashion-mnist --samples 100", 4),
    ],
    ids=["dirichlet", "fedavg on fashion-mnist"],
)
def test_every_device_contributes_in_every_round(fedlp: Run, tmp_path: Path, options: str, devices: int) -> None:
    done = fedlp("demo", "--out", tmp_path / "run", *options.split(), timeout=500.0)
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = json.loads((tmp_path / "run" / "summary.json").read_bytes())["rounds"]
    assert len(rounds) == int(options.split()[1])
    for entry in rounds:
        statuses = {device["id"]: device["status"] for device in entry["devices"]}
        assert statuses == dict.fromkeys((f"demo-{number:02}" for number in range(1, devices + 1)), "contributed")
