"""The paper's table: what each cell simulates, and what the page says of the results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.comparison.paper_cells import FULL, SCHEMES, Cell, cells, experiment, parse_cell
from benchmarks.comparison.paper_report import Report, scheme_title

ROOT = Path(__file__).parents[2]


def finished(accuracy: list[float], silent: int = 0) -> dict[str, object]:
    return {
        "accuracy": {"10": accuracy[0], "60": accuracy[-1]},
        "reported": accuracy,
        "expected_kparams": 74.82,
        "realised_kparams": 74.0,
        "expected_mmacs": 1.882,
        "realised_mmacs": 1.88,
        "silent": {"L1": silent} if silent else {},
        "units": 6,
    }


def test_names_every_experiment_of_the_table_once() -> None:
    names = [cell.name for cell in cells([1, 2])]

    assert len(names) == len(set(names)) == 2 * 2 * 3 * 9
    assert [parse_cell(name).name for name in names] == names
    assert all(name.endswith("/1") for name in names[:54])


@pytest.mark.parametrize(
    ("scheme", "lpr", "mix"),
    [
        ("fedavg", 1.0, (0, 0, 0, 0, 1)),
        ("homo-0.3", 0.3, (0, 0, 0, 0, 1)),
        ("hetero-1", 1.0, (0.6, 0.1, 0.1, 0.1, 0.1)),
        ("hetero-u", 1.0, (0.2, 0.2, 0.2, 0.2, 0.2)),
        ("hetero-5", 1.0, (0.1, 0.1, 0.1, 0.1, 0.6)),
    ],
)
def test_gives_schemes_the_papers_rates_and_depths(scheme: str, lpr: float, mix: tuple[float, ...]) -> None:
    cell = Cell("paper", scheme, "iid", 1)

    assert cell.lpr == lpr
    assert cell.depth_mix == pytest.approx(mix)


def test_does_as_the_text_or_as_the_code() -> None:
    paper = experiment(Cell("paper", "homo-0.5", "mixed:0.95", 3), FULL)
    authors = experiment(Cell("authors", "homo-0.5", "mixed:0.95", 3), FULL)

    assert (paper.scheme.granularity, paper.scheme.weights, paper.scheme.personal_heads) == (
        "layer", "samples", "persist",
    )  # fmt: skip
    assert (authors.scheme.granularity, authors.scheme.weights, authors.scheme.personal_heads) == (
        "tensor", "uniform", "reset",
    )  # fmt: skip
    assert (paper.data.partition, authors.data.partition) == ("mixed:0.95", "mixed-authors:0.95")
    assert (paper.fleet.depth_draw, authors.fleet.depth_draw) == (False, True)
    same = {"model", "training", "rounds", "server", "seed"}
    assert all(getattr(paper, key) == getattr(authors, key) for key in same)
    assert msgspec.structs.replace(paper, seed=4) == experiment(Cell("paper", "homo-0.5", "mixed:0.95", 4), FULL)


def test_judges_every_tenth_round_and_the_reported_ones() -> None:
    wanted = experiment(Cell("paper", "fedavg", "iid", 1), FULL)

    assert [round for round in range(1, 61) if wanted.is_evaluated(round)] == [10, 20, 30, 40, 50, 56, 57, 58, 59, 60]


def test_averages_rounds_and_seeds_together() -> None:
    done = {
        "paper/homo-0.5/iid/1": finished([0.80, 0.82]),
        "paper/homo-0.5/iid/2": finished([0.84, 0.86], silent=36),
        "paper/fedavg/iid/1": finished([0.84, 0.84]),
    }
    report = Report(done, FULL)
    figures = report.groups["paper", "homo-0.5", "iid"]

    assert (figures.mean, figures.deviation) == (pytest.approx(83.0), pytest.approx(2.582, abs=1e-3))
    assert (figures.silent, figures.seeds) == (0.05, 2)
    assert "| Homo(.5) | 83.0 ± 2.6 |  |  | 74.82 | 74.00 | 1.882 | 1.880 | 5.0% |" in report.tables()
    assert report.orderings().splitlines()[2:] == [
        "| paper | iid | Homo(.5) is about FedAvg: within 2 points | yes | +1.0 |"
    ]


def test_says_which_claims_do_not_hold() -> None:
    done = {"paper/homo-0.5/iid/1": finished([0.5, 0.5]), "paper/homo-0.1/iid/1": finished([0.6, 0.6])}

    assert "| Homo(.5) is above Homo(.1) | **no** | -10.0 |" in Report(done, FULL).orderings()


def test_draws_its_pictures_from_what_is_there(tmp_path: Path) -> None:
    Report({"paper/fedavg/iid/1": finished([0.5, 0.6])}, FULL).draw(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "paper-accuracy.png", "paper-communication.png", "paper-curves.png",
    ]  # fmt: skip


def test_writes_schemes_as_the_paper_does() -> None:
    assert [scheme_title(scheme) for scheme in SCHEMES] == [
        "FedAvg", "Homo(.7)", "Homo(.5)", "Homo(.3)", "Homo(.1)", "Hetero(5)", "Hetero(u)", "Hetero(3)", "Hetero(1)",
    ]  # fmt: skip


def test_computes_a_small_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.paper_table", "--quick", "--workers", "1"]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)

    rows = re.findall(r"^\| (FedAvg|Homo\(\.5\)|Hetero\(1\)) \| \d+\.\d ± \d+\.\d \|", ran.stdout, re.MULTILINE)
    assert rows == ["FedAvg", "Homo(.5)", "Hetero(1)"] * 2
    assert "12/12 authors/hetero-1/mixed:0.95/1" in ran.stdout
