from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedlp_edge.cli.depths import build_blueprint, exchanged_bytes
from fedlp_edge.cli.plan import (
    NO_MEMORY,
    NO_SPEED,
    ONLY_TRANSFERS,
    DepthRow,
    FleetPlan,
    ProfilePlan,
    plan_fleet,
    plan_profile,
)
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.prediction import training_memory
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import ModelSettings, PlannerSettings, TrainingSettings
from fedlp_edge.probe.profiles import DeviceProfile, load_profiles, profile_names
from tests.cli.conftest import Run

SMALL_CNN = ("plan", "--model", "small-cnn", "--input", "1x8x8")
TRAINING = TrainingSettings()
QUICK = PlannerSettings(techniques=(), memory_margin=0.0)


@pytest.fixture(scope="module")
def small_cnn() -> Blueprint:
    return build_blueprint(ModelSettings(name="small-cnn", input=(1, 8, 8)), steps=True)


def planned(blueprint: Blueprint, *, deadline: float = 300.0, samples: int = 1000, **limits: Any) -> ProfilePlan:
    return plan_profile(
        blueprint,
        PlanningRules(planner=QUICK, training=TRAINING, deadline_seconds=deadline),
        DeviceProfile(name="box", **limits),
        samples,
    )


def test_prints_one_line_of_explanation_for_every_profile(fedlp: Run) -> None:
    done = fedlp(*SMALL_CNN, "--no-techniques")

    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert set(profile_names()) <= set(lines)
    assert "▮▯▯▯▯  depth 1 of 5: 2.0 MB of 2.5 MB for training; depth 2 needs 2.6 MB" in lines["class-xs"]
    assert "▮▮▮▮▮  depth 5 of 5: 6.9 MB of 3450 MB for training" in lines["raspberry-pi-4"]


def test_gives_the_classes_the_depths_of_the_profiles_page(small_cnn: Blueprint) -> None:
    plan = plan_fleet(small_cnn, PlanningRules(planner=PlannerSettings(techniques=())), load_profiles(), 1000)

    depths = {one.profile: one.depth for one in plan.profiles}
    assert [depths[f"class-{size}"] for size in ("xs", "s", "m", "l")] == [1, 2, 3, 5]
    assert [one.profile for one in plan.profiles][:3] == ["class-xs", "class-s", "class-m"]


def test_prints_one_object_with_the_documented_keys(fedlp: Run, tmp_path: Path) -> None:
    (tmp_path / "till.toml").write_text('name = "till"\nram_mb = 600\ntraining_gmacs_per_second = 0.5\n')

    options = ("--profiles", tmp_path, "--batch-size", 8, "--deadline", 60, "--samples", 200, "--head-mode", "personal")
    plan = json.loads(fedlp(*SMALL_CNN, *options, "--json").stdout)

    assert tuple(plan) == FleetPlan.__struct_fields__
    assert (plan["model"], plan["input"], plan["classes"], plan["head_mode"]) == (
        "small-cnn",
        [1, 8, 8],
        10,
        "personal",
    )
    assert (plan["batch_size"], plan["samples"], plan["deadline_seconds"]) == (8, 200, 60.0)
    assert [tuple(row) for row in plan["depths"]] == [DepthRow.__struct_fields__] * 5
    (till,) = plan["profiles"]
    assert tuple(till) == ProfilePlan.__struct_fields__
    assert (till["profile"], till["depth"], till["training_memory"]) == ("till", 5, 50_000_000)
    deepest = plan["depths"][-1]
    assert till["memory_bytes"] == deepest["training_memory"]
    assert till["seconds"] == pytest.approx(3 * deepest["forward_macs"] * 200 / 0.5e9)


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")

    for kind in (FleetPlan, DepthRow, ProfilePlan):
        assert [key for key in kind.__struct_fields__ if f"`{key}`" not in page] == []


def test_larger_batches_need_more_memory_at_every_depth(small_cnn: Blueprint) -> None:
    small, large = (
        plan_fleet(
            small_cnn,
            PlanningRules(planner=QUICK, training=TrainingSettings(batch_size=size)),
            load_profiles(),
            1000,
        ).depths
        for size in (8, 64)
    )

    assert all(a.training_memory < b.training_memory for a, b in zip(small, large, strict=True))


def test_counts_training_time_where_the_profile_states_a_speed(small_cnn: Blueprint) -> None:
    # All five depths at 1000 samples within 0.8 * 10 s need this speed; a little less costs depth.
    enough = 3 * small_cnn.costs[-1].forward_macs * 1000 / 8.0 / 1e9
    fast = planned(small_cnn, deadline=10.0, ram_mb=1000, training_gmacs_per_second=enough * 1.01)
    slow = planned(small_cnn, deadline=10.0, ram_mb=1000, training_gmacs_per_second=enough * 0.99)

    assert (fast.depth, slow.depth) == (5, 4)
    assert slow.seconds is not None
    assert "depth 5 takes 8.1 s a round, 8.0 s are planned" in slow.explanation


@pytest.mark.parametrize(("link", "words"), [(None, NO_SPEED), (8, ONLY_TRANSFERS)])
def test_says_that_training_time_is_not_known(small_cnn: Blueprint, link: float | None, words: str) -> None:
    plan = planned(small_cnn, ram_mb=1000, link_mbit_per_second=link)

    assert (plan.depth, plan.seconds, plan.training_macs_per_second) == (5, None, None)
    assert plan.explanation.endswith(f"; {words}")


def test_still_gives_less_depth_to_a_link_too_slow_for_the_transfers(small_cnn: Blueprint) -> None:
    # Down and up within 0.8 * 10 s.
    enough = 2 * exchanged_bytes(small_cnn, 5) / 8.0 * 8 / 1e6

    assert planned(small_cnn, deadline=10.0, ram_mb=1000, link_mbit_per_second=enough * 1.01).depth == 5
    assert planned(small_cnn, deadline=10.0, ram_mb=1000, link_mbit_per_second=enough * 0.99).depth == 4


def test_tells_a_device_that_can_bear_nothing_why(small_cnn: Blueprint) -> None:
    plan = planned(small_cnn, ram_mb=551)
    needed = training_memory(small_cnn.costs[0], TRAINING)

    assert (plan.depth, plan.training_memory) == (0, 1_000_000)
    assert plan.explanation == f"nothing fits: depth 1 needs {needed / 1e6:.1f} MB for training, 1.0 MB are free"


def test_plans_nothing_for_a_profile_without_memory(small_cnn: Blueprint) -> None:
    plan = planned(small_cnn, threads=2)

    assert (plan.depth, plan.training_memory, plan.explanation) == (None, None, NO_MEMORY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--profiles", "/nonexistent"), "error: /nonexistent holds no profile"),
        (("--input", "3x"), "error: --input 3x: write the shape"),
        (("--model", "nope"), "error: unknown model 'nope'"),
    ],
)
def test_ends_with_one_line_on_a_wrong_option(fedlp: Run, options: tuple[str, str], message: str) -> None:
    done = fedlp(*SMALL_CNN, *options)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(message)


def test_plans_a_torchvision_model_without_loading_torch_itself() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom fedlp_edge.cli.main import app\n"
        "arguments = ['plan', '--model', 'torchvision:squeezenet1_1', '--input', '3x64x64', '--json']\n"
        "done = CliRunner().invoke(app, arguments)\n"
        'assert done.exit_code == 0 and \'"profile":"raspberry-pi-5"\' in done.output, done.output\n'
        "print(sorted({'torch', 'torchvision', 'paho'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
