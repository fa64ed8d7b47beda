"""The comparison at equal cost: what each cell simulates, how far its budget goes, and what the page says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.heterogeneous import compute
from benchmarks.scheme_cells import (
    FULL,
    QUICK,
    RIVALS,
    VARIANTS,
    Cell,
    Cost,
    cells,
    cost_by_round,
    experiment,
    parse_cell,
    rounds_for,
    total,
)
from benchmarks.scheme_report import Report
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.simulation import local_engine, simulate


def finished(accuracy: float, rounds: int = 10) -> dict[str, object]:
    return {
        "accuracy": {"5": accuracy / 2, "10": accuracy},
        "megabytes": {"5": 1.0, "10": 2.0},
        "rounds": {"bytes": rounds, "macs": 10},
        "reported": {"bytes": [accuracy, accuracy], "macs": [accuracy]},
        "exits": {"1": 0.25, "5": accuracy},
        "tiers": {"1": 0.5, "5": 0.75},
    }


def test_names_every_cell_once() -> None:
    names = [cell.name for cell in cells([1, 2])]
    assert len(names) == len(set(names))
    assert [parse_cell(name).name for name in names] == names
    assert all(name.endswith("/1") for name in names[: len(names) // 2])


def test_gives_rivals_the_same_adjustment_on_skewed_data() -> None:
    names = {cell.name for cell in cells([1])}
    for rival, mix in itertools.product(RIVALS, ("u", "1")):
        assert {f"{c}/{rival}/{mix}/mixed:0.95/1" for c in ("plain", "adjusted")} <= names
        assert (f"plain/{rival}/{mix}/iid/1" in names) == (rival not in VARIANTS)


def test_experiments_are_their_recipes() -> None:
    hetero = experiment(Cell("plain", "fedlp-hetero", "u", "iid", 1), FULL, 3)
    assert (hetero.model.head_mode, hetero.update.encoding, hetero.server.ema) == ("personal", "none", 0)
    adjusted = experiment(Cell("adjusted", "heterofl", "1", "mixed:0.95", 1), FULL, 3)
    assert (adjusted.training.objective.logit_adjustment, adjusted.training.objective.mask_absent) == (1.0, True)
    assert adjusted.fleet.depth_mix == (0.6, 0.1, 0.1, 0.1, 0.1)
    ours = experiment(Cell("tricks", "fedlp-plus", "u", "iid", 1), FULL, 3)
    tricks = experiment(Cell("tricks", "depthfl", "u", "iid", 1), FULL, 3)
    assert (tricks.server, tricks.update) == (ours.server, ours.update)
    assert tricks.training.objective.distillation == 1.0


def test_wide_levels_compute_no_more_than_depths() -> None:
    name = "fedlp-cnn-narrow"
    depths = build_model(ModelSettings(name=name), seed=0).blueprint()
    ratios = tuple(VARIANTS["heterofl-wide"][1]["width_ratios"])
    widths = build_model(ModelSettings(name=name, scaling="width", width_ratios=ratios), seed=0).blueprint()
    for narrow, shallow in zip(widths.costs, depths.costs, strict=True):
        assert narrow.forward_macs <= shallow.forward_macs


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        (Cost(30, 300), {"bytes": 3, "macs": 3}),
        (Cost(44, 151), {"bytes": 4, "macs": 2}),
        (Cost(46, 149), {"bytes": 5, "macs": 1}),
        (Cost(1, 1), {"bytes": 1, "macs": 1}),
    ],
)
def test_a_budget_pays_for_the_nearest_number_of_rounds(budget: Cost, rounds: dict[str, int]) -> None:
    assert rounds_for(itertools.repeat(Cost(10, 100)), budget) == rounds


def test_costs_are_what_a_run_will_really_cost(tmp_path: Path) -> None:
    wanted = experiment(Cell("tricks", "depthfl", "u", "mixed:0.95", 1), QUICK, 2)
    blueprint = build_model(wanted.model, seed=0).blueprint()
    foreseen = total(cost_by_round(wanted, blueprint), 2)
    with local_engine(workers=1) as engine:
        summary = simulate(wanted, tmp_path / "run", engine=engine)
    parts = [device for entry in summary.rounds for device in entry.devices]
    assert foreseen.macs == sum(3 * blueprint.costs[d.depth - 1].forward_macs * d.samples for d in parts)
    counted = sum(device.bytes_down + device.bytes_up for device in parts)
    assert foreseen.bytes <= counted <= 1.1 * foreseen.bytes


def test_compute_reports_the_rounds_before_each_budget_is_used_up() -> None:
    with local_engine(workers=1) as engine:
        found = compute(Cell("plain", "heterofl", "u", "mixed:0.95", 1), QUICK, engine)
    rounds, accuracy = found["rounds"], found["accuracy"]
    assert isinstance(rounds, dict)
    assert isinstance(accuracy, dict)
    assert rounds["macs"] > rounds["bytes"] > QUICK.reported
    for kind, count in rounds.items():
        assert found["reported"][kind] == [accuracy[str(count - 1)], accuracy[str(count)]]  # type: ignore[index]


def test_page_says_who_is_ahead_and_whether_that_is_the_goal(tmp_path: Path) -> None:
    done = {f"plain/{rival}/u/mixed:0.95/1": finished(0.70 + i / 100) for i, rival in enumerate(RIVALS)}
    done["adjusted/depthfl/u/mixed:0.95/1"] = finished(0.81)
    done["tricks/fedlp-plus/u/mixed:0.95/1"] = finished(0.80, rounds=16)
    report = Report(done, FULL)
    assert "| FedLP-Hetero | 10 | 70.0 ± 0.0 |" in report.tables()
    assert "| **fedlp-plus** | 16 |" in report.tables()
    goals = report.goals()
    assert "HeteroFL +9.0" in goals
    assert "DepthFL, large heads +6.0 | +3 | yes |" in goals
    assert "| + logit adjustment | DepthFL -1.0 |  |  |" in goals
    assert "| FedLP-Hetero, depths u | 25.0 70.0 | 50.0 75.0 |" in report.depths()
    report.draw(tmp_path)
    assert (tmp_path / "schemes-bytes.png").stat().st_size > 10_000
