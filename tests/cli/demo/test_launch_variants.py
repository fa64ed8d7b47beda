"""The demo of larger pictures: every device contributes in every round, whatever processor this is.

Four devices have all the profiles that a demo gives; ``test_launch`` shows the same of small pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.system
@pytest.mark.timeout(600)
def test_every_device_contributes_in_every_round(fedlp: Run, tmp_path: Path) -> None:
    options = ("--devices", 4, "--rounds", 2, "--scheme", "fedavg", "--data", "fashion-mnist", "--samples", 100)
    done = fedlp("demo", "--out", tmp_path / "run", *options, timeout=500.0)
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = json.loads((tmp_path / "run" / "summary.json").read_bytes())["rounds"]
    assert len(rounds) == 2
    for entry in rounds:
        statuses = {device["id"]: device["status"] for device in entry["devices"]}
        assert statuses == dict.fromkeys((f"demo-{number:02}" for number in range(1, 5)), "contributed")
