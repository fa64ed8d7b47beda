from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fedlp_edge.cli.profile import MachineReport, unmeasured_report
from fedlp_edge.probe.expected import RUNTIME_MEMORY
from fedlp_edge.probe.host import Host
from tests.cli.conftest import Run

MB = 1_000_000


def test_prints_this_machine_as_a_table(fedlp: Run) -> None:
    done = fedlp("profile")

    assert done.returncode == 0, done.stderr
    labels = [line[:14].strip() for line in done.stdout.splitlines()]
    assert {"host", "cores", "memory", "for training", "speed"} <= set(labels)
    assert "not measured" in done.stdout


def test_prints_one_object_with_the_documented_keys(fedlp: Run) -> None:
    report = json.loads(fedlp("profile", "--json").stdout)

    assert tuple(report) == MachineReport.__struct_fields__
    assert 0 < report["training_memory"] < report["memory_available"] <= report["memory_total"]
    assert (report["measured"], report["training_macs_per_second"], report["processor"]) == (False, None, None)


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")

    assert [key for key in MachineReport.__struct_fields__ if f"`{key}`" not in page] == []


def test_measures_without_data(fedlp: Run) -> None:
    report = json.loads(fedlp("profile", "--measure", "--json").stdout)

    assert report["measured"] is True
    assert report["training_macs_per_second"] > 1e6
    assert report["processor"] in ("cpu", "cuda")
    assert report["idle_memory"] > 50 * MB


def test_leaves_agent_and_worker_their_part_where_nothing_is_measured() -> None:
    host = Host("pi", "aarch64", memory_available=800 * MB, memory_total=1000 * MB, cores=4.0)
    assert unmeasured_report(host).training_memory == 800 * MB - RUNTIME_MEMORY
    assert unmeasured_report(host).threads == 4

    full = Host("pi", "aarch64", memory_available=100 * MB, memory_total=1000 * MB, cores=0.5)
    assert unmeasured_report(full).training_memory == 0
    assert unmeasured_report(full).threads == 1


def test_loads_no_torch_to_look_at_the_machine() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom fedlp_edge.cli.main import app\n"
        "assert CliRunner().invoke(app, ['profile', '--json']).exit_code == 0\n"
        "print(sorted({'torch', 'paho'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
