"""``fedlp data``."""

from __future__ import annotations

import json
from pathlib import Path

from fedlp_edge.cli.data import DataReport
from tests.cli.conftest import Run


def test_prints_who_holds_what_and_draws_it(fedlp: Run, tmp_path: Path) -> None:
    done = fedlp("data", "digits", "--devices", "3", "--partition", "shards:1", "--plot", str(tmp_path / "who.svg"))

    assert done.returncode == 0, done.stderr
    assert "samples a device: 479 to 480" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[-4:-1]] == ["0", "1", "2"]
    assert (tmp_path / "who.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_prints_one_object_with_the_documented_keys(fedlp: Run) -> None:
    report = json.loads(fedlp("data", "digits", "--devices", "2", "--seed", "4", "--json").stdout)

    assert tuple(report) == DataReport.__struct_fields__
    assert (report["seed"], report["partition"], sum(map(sum, report["counts"]))) == (4, "iid", 1438)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [key for key in report if f"`{key}`" not in page] == []


def test_without_devices_says_what_the_data_hold(fedlp: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,who,temp\n1,anna,20.5\n2,bo,21\n,bo,22\n")
    done = fedlp("data", f"csv:{path}#target=temp&group=who")
    assert done.returncode == 0, done.stderr
    words = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "samples 2, in memory" in words
    assert "target temp 20.5 to 21, mean 20.75" in words
    assert "group anna 1 sample" in words
    found = json.loads(fedlp("data", "digits#limit=7", "--json").stdout)
    assert (found["samples"], found["shape"]) == (7, [1, 8, 8])


def test_names_a_few_features_of_a_wide_table(fedlp: Run, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"f{number}" for number in range(3000)) + "\n" + ",".join(["1"] * 3000) + "\n")
    done = fedlp("data", f"csv:{path}")
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).count("f19 and 2,980 more") == 1
    assert "f20" not in done.stdout


def test_names_with_line_breaks_and_terminal_sequences_take_one_line_each(fedlp: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f'u,y\n1,"a\nb"\n2,\x1b[31mred\n3,{"x" * 90}\n')
    done = fedlp("data", f"csv:{table}#target=y")
    shown = [line.split("  ")[0].strip() for line in done.stdout.splitlines() if line.startswith("class ")]
    assert shown == ["class \\x1b[31mred", "class a\\nb", f"class {'x' * 37}..."]


def test_says_what_is_wrong_in_one_line(fedlp: Run, tmp_path: Path) -> None:
    for arguments, reason in (
        (("digits", "--partition", "zipf"), "partition 'zipf' is unknown"),
        (("digits", "--plot", str(tmp_path / "who.xyz")), "no such picture format"),
        (("digits", "--plot", str(tmp_path / "none" / "who.png")), "No such file or directory"),
    ):
        done = fedlp("data", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
