"""The comparison at equal cost: what each cell simulates, how far its budget goes, and what the page says."""

from __future__ import annotations

import collections
import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.comparison.scheme_cells import (
    BUDGETS,
    CONDITIONS,
    DYNAMIC,
    MIXES,
    NOT_IN_MEMORY,
    RIVALS,
    SCHEMES,
    WITH_TRICKS,
    Cell,
    Condition,
    Cost,
    answer,
    cells,
    chosen_settings,
    cost_by_round,
    deepest_trained,
    experiment,
    parse_cell,
    population,
    rounds_for,
    rounds_of_equal_tasks,
    total,
    trials,
)
from benchmarks.comparison.scheme_memory import largest_that_fits, memory_shares
from benchmarks.comparison.scheme_report import Report
from benchmarks.comparison.studies import CIFAR10, FASHION_MNIST, QUICK, STUDIES, TEXT, Study, StudyOfPersons
from benchmarks.comparison.validation_split import digits
from benchmarks.heterogeneous import QUICK_SCHEMES, compute, expected, quick
from benchmarks.results.cells import CellStore
from benchmarks.results.paired_differences import PairedDifference
from benchmarks.rivals.dynamic_regularisation import DynamicEngine, DynamicModel
from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.core.settings import ModelSettings, ObjectiveSettings
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.data.sources import read
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.reporting.summary import RoundSummary
from fedlp_edge.simulation import Experiment, local_engine, simulate

COMPARED = FASHION_MNIST.compared(SCHEMES)


def finished(accuracy: float, rounds: int = 10) -> dict[str, object]:
    return {
        "accuracy": {"5": accuracy / 2, "10": accuracy},
        "megabytes": {"5": 1.0, "10": 2.0},
        "rounds": {"bytes": rounds, "macs": 10},
        "gigamacs": {"5": 1.0, "10": 2.0},
        "reported": {"bytes": [accuracy, accuracy], "macs": [accuracy]},
        "exits": {"1": 0.25, "5": accuracy},
        "tiers": {"1": 0.5, "5": 0.75},
    }


def test_names_every_cell_once() -> None:
    wanted = [*trials(), *cells([1, 2], [1], chosen={("depthfl", "u", "bytes"): 3})]
    names = [cell.name for cell in wanted]
    assert len(names) == len(set(names))
    assert [parse_cell(name) for name in names] == wanted
    assert "tricks/depthfl/u/mixed:0.95/1/setting-2/validation" in names
    assert [name for name in names if "setting" in name and "validation" not in name] == [
        f"{condition}/depthfl/u/mixed:0.95/{seed}/setting-3" for seed in (1, 2) for condition in WITH_TRICKS
    ]
    assert not any(cell.seed == 2 and cell.condition not in WITH_TRICKS for cell in wanted)


def test_no_scheme_lacks_a_condition() -> None:
    names = {cell.name for cell in cells([1])}
    assert not any("reefl" in name for name in names)
    for scheme, mix, partition, condition in itertools.product(COMPARED, MIXES, FASHION_MNIST.partitions, CONDITIONS):
        assert f"{condition}/{scheme}/{mix}/{partition}/1" in names
        memory = f"{condition}/{scheme}/{mix}/{partition}/1/memory" in names
        assert memory == (condition == "tricks" and scheme not in NOT_IN_MEMORY)


def test_every_scheme_gets_as_many_trials() -> None:
    counted = collections.Counter((cell.scheme, cell.mix) for cell in trials())
    assert counted == dict.fromkeys(itertools.product(COMPARED, MIXES), 4)


def test_trials_are_judged_on_samples_held_out_of_the_training_split() -> None:
    cell = Cell("tricks", "heterofl", "u", "iid", 1, validation=True)
    assert experiment(cell, QUICK, 1).data.evaluate == "benchmarks.comparison.validation_split:digits"
    (held_out, labels), (trained, _) = digits("test"), digits("train")
    whole = read(parse_spec("digits"), "train")
    assert (len(trained), len(held_out)) == (1198, 240)
    assert labels.tolist() == whole.y[-240:].tolist()
    assert held_out[0] * 0.3761 + 0.3053 == pytest.approx(whole.array[-240] / 16)


def test_trials_on_other_data_have_their_own_files() -> None:
    assert TEXT.sources(1) == (TEXT.data, TEXT.data)
    assert TEXT.sources(1, validation=True) == (TEXT.validation, TEXT.validation)
    assert TEXT.data != TEXT.validation


def test_a_network_that_cannot_be_narrowed_is_divided_by_depth_alone() -> None:
    model = ModelSettings(name=TEXT.model, input=TEXT.input, classes=TEXT.classes)
    layered = build_model(model, seed=0, allow_models=None)
    assert [unit.parameters for unit in layered.layer_units] == [45168, 18960, 18960, 18960, 18960]
    with pytest.raises(PartitionError, match="Embedding cannot be narrowed"):
        build_model(msgspec.structs.replace(model, scaling="width"), seed=0, allow_models=None)
    assert TEXT.compared(SCHEMES) == ("fedavg", "fedavg-full", "depthfl", "reefl", "fedlp-exits", "fedlp-hetero")


def test_chooses_the_setting_that_is_best_on_validation_samples_once_all_are_tried() -> None:
    done = {
        f"tricks/depthfl/u/mixed:0.95/1{word}/validation": finished(0.7) for word in ("", "/setting-1", "/setting-2")
    }
    done["tricks/depthfl/u/mixed:0.95/1/setting-3"] = finished(0.9)  # on the test split
    assert chosen_settings(done) == {}
    found = {"reported": {"bytes": [0.71, 0.73], "macs": [0.69]}}
    done["tricks/depthfl/u/mixed:0.95/1/setting-3/validation"] = finished(0.71) | found
    assert chosen_settings(done) == {("depthfl", "u", "bytes"): 3, ("depthfl", "u", "macs"): 0}


def test_experiments_are_their_recipes() -> None:
    hetero = experiment(Cell("plain", "fedlp-hetero", "u", "iid", 1), FASHION_MNIST, 3)
    assert (hetero.model.head_mode, hetero.update.encoding, hetero.server.ema) == ("personal", "none", 0)
    adjusted = experiment(Cell("adjusted", "heterofl", "1", "mixed:0.95", 1), FASHION_MNIST, 3)
    assert (adjusted.training.objective.logit_adjustment, adjusted.training.objective.mask_absent) == (1.0, True)
    assert adjusted.fleet.depth_mix == (0.6, 0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("condition", "scheme", "setting", "recipe"),
    [("tricks", "fedlp-hetero", 0, "fedlp-plus"), ("tricks+int8", "fedlp-exits", 1, "fedlp-exits")],
)
def test_ours_with_every_trick_are_recipes(condition: Condition, scheme: str, setting: int, recipe: str) -> None:
    ours = experiment(Cell(condition, scheme, "u", "iid", 1, setting=setting), FASHION_MNIST, 3)
    wanted = msgspec.convert(with_recipe({"recipe": recipe}), Experiment)
    assert (ours.scheme, ours.update, ours.server) == (wanted.scheme, wanted.update, wanted.server)
    assert ours.training.objective == wanted.training.objective
    assert (ours.model.head_mode, ours.model.exits, ours.model.exit_heads) == (
        wanted.model.head_mode,
        wanted.model.exits,
        wanted.model.exit_heads,
    )
    assert (ours.rounds.devices_per_round, ours.rounds.prefer_deepest) == (4, wanted.rounds.prefer_deepest)


def test_rivals_get_every_trick_and_keep_what_is_theirs() -> None:
    ours = experiment(Cell("tricks", "fedlp-hetero", "u", "iid", 1), FASHION_MNIST, 10)
    theirs = experiment(Cell("tricks", "depthfl", "u", "iid", 1), FASHION_MNIST, 10)
    assert (theirs.server, theirs.update, theirs.rounds) == (ours.server, ours.update, ours.rounds)
    assert theirs.training.objective == ObjectiveSettings(logit_adjustment=1.0, distillation=1.0, distillation_rampup=3)
    undistilled = experiment(Cell("tricks", "depthfl", "u", "iid", 1, setting=3), FASHION_MNIST, 10)
    assert undistilled.training.objective.distillation == 0


def test_equal_memory_gives_each_tier_the_largest_part_that_fits() -> None:
    assert largest_that_fits([2, 5, 9], [3, 4, 9]) == (0, 2, 3)
    mix = MIXES["u"]
    depthfl = experiment(Cell("tricks", "depthfl", "u", "iid", 1, memory=True), FASHION_MNIST, 1)
    assert depthfl.fleet.depth_mix == mix
    levels = experiment(Cell("tricks", "heterofl", "u", "iid", 1, memory=True), FASHION_MNIST, 1).fleet.depth_mix
    assert levels == pytest.approx((0.0, 0.2, 0.2, 0.4, 0.2))
    with pytest.raises(ValueError, match="does not fit tier 1"):
        memory_shares(experiment(Cell("tricks", "depthfl-large", "u", "iid", 1), FASHION_MNIST, 1), mix)
    assert rounds_of_equal_tasks(depthfl, FASHION_MNIST) == 75


@pytest.mark.parametrize("scheme", [scheme for scheme in COMPARED if scheme not in NOT_IN_MEMORY])
def test_every_scheme_with_a_cell_of_equal_memory_has_devices_there(scheme: str) -> None:
    for mix in MIXES:
        shares = experiment(Cell("tricks", scheme, mix, "iid", 1, memory=True), FASHION_MNIST, 1).fleet.depth_mix
        assert sum(shares) == pytest.approx(1)
    if scheme == "fedavg-full":  # the whole model fits the strongest tier alone, and all others only wait
        assert shares == pytest.approx((0, 0, 0, 0.9, 0.1))


def test_exits_that_nobody_trains_have_no_say() -> None:
    cell = Cell("tricks", "fedlp-exits", "u", "iid", 1, memory=True)
    deepest = deepest_trained(experiment(cell, FASHION_MNIST, 1))
    assert deepest == 4
    entry = RoundSummary(
        round=1, seconds=0.0, accuracy={4: 0.7, 5: 0.1}, ensemble={4: 0.8, 5: 0.4}, devices=(), coverage={}
    )
    assert answer(cell, entry, deepest) == 0.8
    assert answer(Cell("tricks", "fedlp-hetero", "u", "iid", 1), entry, 5) == 0.1


@pytest.mark.parametrize("study", [study for study in STUDIES.values() if study.compared(["heterofl-wide"])])
def test_wide_levels_are_the_widest_that_compute_no_more_than_depths(study: Study) -> None:
    model = ModelSettings(name=study.model, input=study.input, classes=study.classes)
    depths = build_model(model, seed=0).blueprint().costs
    sixteenths = tuple(level / 16 for level in range(1, 17))
    widths = msgspec.structs.replace(model, scaling="width", width_ratios=sixteenths)
    computed = [cost.forward_macs for cost in build_model(widths, seed=0).blueprint().costs]
    widest = [max(r for r, macs in zip(sixteenths, computed, strict=True) if macs <= d.forward_macs) for d in depths]
    assert tuple(widest) == study.wide_levels


def test_persons_of_a_test_are_nobodys_training() -> None:
    study = StudyOfPersons(data="csv:watches#group=person", persons=("ada", "bob", "eve", "joe"))
    assert study.sources(1) == ("csv:watches#group=person&only=eve,joe", "csv:watches#group=person&only=ada,bob")
    assert study.sources(2) == ("csv:watches#group=person&only=ada,bob", "csv:watches#group=person&only=eve,joe")
    for seed in (0, 3):
        with pytest.raises(ValueError, match=f"4 persons are tests for seeds 1 to 2, and not for seed {seed}"):
            study.sources(seed)


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


def test_a_cell_says_what_it_broadcasts() -> None:
    narrow = Cell("tricks+int8", "heterofl", "u", "mixed:0.95", 1)
    plain = replace(narrow, condition="tricks")
    assert (narrow.name, parse_cell(narrow.name)) == ("tricks+int8/heterofl/u/mixed:0.95/1", narrow)
    one, other = experiment(narrow, FASHION_MNIST, 3), experiment(plain, FASHION_MNIST, 3)
    assert (one.update.broadcast, other.update.broadcast) == ("int8", "none")
    assert msgspec.structs.replace(one, update=other.update) == other
    blueprint = build_model(one.model, seed=0).blueprint()
    # Of five bytes a value one goes up; of the four on their way down one and the scales are left.
    halved = total(cost_by_round(one, blueprint), 9).bytes / total(cost_by_round(other, blueprint), 9).bytes
    assert 2 / 5 < halved < 2.2 / 5


@pytest.mark.parametrize(("condition", "scheme"), [("tricks", "depthfl"), ("tricks+int8", "scalefl")])
def test_costs_are_what_a_run_will_really_cost(condition: Condition, scheme: str, tmp_path: Path) -> None:
    wanted = experiment(Cell(condition, scheme, "u", "mixed:0.95", 1), QUICK, 2)
    blueprint = build_model(wanted.model, seed=0, allow_models=None).blueprint()
    foreseen = total(cost_by_round(wanted, blueprint), 2)
    with local_engine(workers=1) as engine:
        summary = simulate(wanted, tmp_path / "run", engine=engine)
    parts = [device for entry in summary.rounds for device in entry.devices]
    assert foreseen.macs == sum(3 * blueprint.costs[d.depth - 1].forward_macs * d.samples for d in parts)
    counted = sum(device.bytes_down + device.bytes_up for device in parts)
    assert foreseen.bytes <= counted <= 1.1 * foreseen.bytes


def test_a_shared_exit_is_paid_for_by_every_device_and_answers_for_all_depths(tmp_path: Path) -> None:
    drawn = np.random.default_rng(1)
    arrays = {f"x_{split}": drawn.integers(0, 512, (60, 32)) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(60) % 10 for split in ("train", "test")}
    np.savez(tmp_path / "texts.npz", **arrays)
    study = replace(TEXT, data=f"npz:{tmp_path}/texts.npz", devices=5, reported=2, every=1)
    wanted = experiment(Cell("tricks", "reefl", "u", "iid", 1), study, 2)
    blueprint = build_model(wanted.model, seed=0, allow_models=None).blueprint()
    foreseen = total(cost_by_round(wanted, blueprint), 2)
    with local_engine(workers=1) as engine:
        summary = simulate(wanted, tmp_path / "run", engine=engine)
    parts = [device for entry in summary.rounds for device in entry.devices]
    assert foreseen.macs == sum(3 * blueprint.costs[d.depth - 1].forward_macs * d.samples for d in parts)
    assert foreseen.bytes <= sum(device.bytes_down + device.bytes_up for device in parts) <= 1.1 * foreseen.bytes
    last = summary.rounds[-1]
    assert len(last.coverage["H5"]) == 4
    for unit, least in (("H5", 1), ("L1", 1), ("L3", 3), ("L5", 5)):
        assert set(last.coverage[unit]) == {device.id for device in last.devices if device.depth >= least}
    assert list(last.accuracy) == [1, 2, 3, 4, 5]
    assert answer(parse_cell("tricks/reefl/u/iid/1"), last, 5) == last.accuracy[5]


def test_compute_reports_the_rounds_before_each_budget_is_used_up() -> None:
    with local_engine(workers=1) as engine:
        found = compute(Cell("plain", "heterofl", "u", "mixed:0.95", 1), QUICK, engine)
    rounds, accuracy = found["rounds"], found["accuracy"]
    assert isinstance(rounds, dict)
    assert isinstance(accuracy, dict)
    assert rounds["macs"] > rounds["bytes"] > QUICK.reported
    for kind, count in rounds.items():
        assert found["reported"][kind] == [accuracy[str(count - 1)], accuracy[str(count)]]  # type: ignore[index]


def test_feddyn_goes_on_where_the_smaller_budget_stopped_it(tmp_path: Path) -> None:
    cell = Cell("tricks", DYNAMIC, "u", "mixed:0.95", 1)
    with local_engine(workers=1) as engine:
        found, without = compute(cell, QUICK, engine), compute(replace(cell, scheme="depthfl"), QUICK, engine)
        # A budget that both equalities spend in as many rounds does not stop in between.
        model = build_model(experiment(cell, QUICK, 1).model, seed=0).blueprint()
        rounds = max(found["rounds"].values())  # type: ignore[attr-defined]
        summary = simulate(
            experiment(cell, QUICK, rounds),
            tmp_path / "run",
            engine=DynamicEngine(engine),
            make_global_model=partial(DynamicModel, population=population(experiment(cell, QUICK, 1), model)),
        )
    assert summary.final is not None
    assert len(set(found["rounds"].values())) == 2  # type: ignore[attr-defined]
    assert found["rounds"] == without["rounds"]
    assert found["digest"] == summary.final.model_digest != without["digest"]


def test_says_what_the_missing_cells_will_take() -> None:
    known = [{"cell": "plain/fedavg/u/iid/1", "seconds": 30.0, "workers": 2}]
    missing = ["plain/fedavg/1/iid/1", "plain/depthfl/1/iid/1"]
    assert expected(missing, known, workers=1).startswith("2 cells to compute, about 0.0 hours with 1 worker;")
    assert "about 1.0 hours with 2 workers" in expected(missing * 60, known, workers=2)


@pytest.mark.parametrize(
    ("theirs", "shown", "verdict"),
    [
        # Differences 1, 2 and 3: mean 2, standard error 1 / sqrt(3), and t(.975, 2) = 4.303.
        ({1: 0.79, 2: 0.78, 3: 0.77, 9: 0.1}, "+2.0 [-0.5, +4.5]", "not told apart"),
        ({1: 0.79, 2: 0.79, 3: 0.7899}, "+1.0 [+1.0, +1.0]", "ahead"),
        ({1: 0.81, 2: 0.81, 3: 0.8101}, "-1.0 [-1.0, -1.0]", "**behind**"),
        ({1: 0.7}, "+10.0", "not told apart"),
    ],
)
def test_differences_are_paired_by_seed(theirs: dict[int, float], shown: str, verdict: str) -> None:
    difference = PairedDifference.of({1: 0.8, 2: 0.8, 3: 0.8}, theirs)
    assert difference is not None
    assert (difference.shown(), difference.verdict()) == (shown, verdict)
    assert PairedDifference.of({1: 0.8}, {2: 0.8}) is None


def test_spread_is_that_of_the_seeds_and_not_of_the_rounds() -> None:
    first = {**finished(0.0), "reported": {"bytes": [0.5, 0.7], "macs": [0.6]}}
    second = {**finished(0.0), "reported": {"bytes": [0.55, 0.65], "macs": [0.6]}}
    report = Report({"plain/heterofl/u/iid/1": first, "plain/heterofl/u/iid/2": second}, FASHION_MNIST)
    assert report.groups["plain", "heterofl", "u", "iid", "bytes"].shown() == "60.0 ± 0.0 (2)"


def test_page_says_who_is_ahead_and_what_is_not_computed(tmp_path: Path) -> None:
    done = {f"plain/{rival}/u/mixed:0.95/1": finished(0.70) for rival in RIVALS}
    done["plain/depthfl/u/mixed:0.95/1"] = finished(0.73)
    done |= {f"tricks/depthfl/u/mixed:0.95/{seed}": finished(0.81) for seed in (1, 2)}
    done["tricks/depthfl/u/mixed:0.95/1/setting-3"] = finished(0.99)  # not chosen
    done |= {f"tricks/fedlp-hetero/u/mixed:0.95/{seed}": finished(0.80, rounds=16) for seed in (1, 2)}
    report = Report(done, FASHION_MNIST)
    assert "### mixed .95, depths u, equal bytes" in report.tables()
    # Nobody has a cell with logit adjustment alone, nor FedAvg on everybody any.
    assert "| scheme | as published, rounds | as published | + every trick, rounds | + every trick |" in report.tables()
    assert "| DepthFL | 10 | 73.0 (1) | 10 | 81.0 ± 0.0 (2) |" in report.tables()
    assert "| **FedLP-Hetero** |  | … | 16 | 80.0 ± 0.0 (2) |" in report.tables()
    assert "FedAvg, everybody" not in report.tables()
    differences = report.differences()
    assert "| `fedlp-plus` | DepthFL | +7.0 | … | -1.0 [-1.0, -1.0] | **behind** |" in differences
    assert "favours `fedlp-plus`" in report.settings()
    assert "| **FedLP-Hetero**, depths u | 25.0 80.0 | 50.0 75.0 |" in report.depths()
    assert "| DepthFL, large heads | 7.9 " in report.memory()
    report.draw(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"schemes-{e}.png" for e in ("bytes", "macs")}
    assert "schemes-memory.png" not in report.text()


def test_what_was_best_in_the_trials_has_a_column_of_its_own() -> None:
    done = {
        f"tricks/{scheme}/u/mixed:0.95/{seed}": finished(0.7)
        for scheme in ("fiarse", "fedlp-hetero")
        for seed in (1, 2)
    }
    for scheme, best in (("fiarse", 0), ("fedlp-hetero", 2)):
        for setting in range(4):
            word = f"/setting-{setting}" if setting else ""
            done[f"tricks/{scheme}/u/mixed:0.95/1{word}/validation"] = finished(0.9 if setting == best else 0.8)
    done |= {f"tricks/fedlp-hetero/u/mixed:0.95/{seed}/setting-2": finished(0.75) for seed in (1, 2)}
    done |= {f"tricks/fedlp-hetero/u/mixed:0.95/{seed}/setting-1": finished(0.99) for seed in (1, 2)}
    report = Report(done, FASHION_MNIST)
    assert "| scheme | + every trick, rounds | + every trick | + best of 4 settings, rounds |" in report.tables()
    assert "| **FedLP-Hetero** | 10 | 70.0 ± 0.0 (2) | 10 | 75.0 ± 0.0 (2) |" in report.tables()
    assert "| FIARSE | 10 | 70.0 ± 0.0 (2) | 10 | 70.0 ± 0.0 (2) |" in report.tables()
    row = "| `fedlp-plus` | FIARSE | … | … | +0.0 [+0.0, +0.0] | +5.0 [+5.0, +5.0] | ahead |"
    assert row in report.differences()
    assert "| **FedLP-Hetero** | u | the server adds the mean | the server adds the mean |" in report.settings()


def test_the_best_setting_of_one_study_is_shown_on_another_and_with_int8() -> None:
    done = {f"tricks/fedlp-exits/u/mixed:0.95/{seed}": finished(0.7) for seed in (1, 2)}
    done |= {f"tricks/fedlp-exits/u/mixed:0.95/{seed}/setting-1": finished(0.75) for seed in (1, 2)}
    done |= {f"tricks+int8/fedlp-exits/u/mixed:0.95/{seed}/setting-1": finished(0.8, rounds=25) for seed in (1, 2)}
    done |= {f"tricks+int8/heterofl-wide/u/mixed:0.95/{seed}": finished(0.7) for seed in (1, 2)}
    best = {"fedlp-exits": 1, "heterofl-wide": 0}
    chosen = {(scheme, "u", budget): setting for scheme, setting in best.items() for budget in BUDGETS}
    report = Report(done, CIFAR10, chosen)
    assert (
        "| **FedLP with exits** | 10 | 70.0 ± 0.0 (2) | 10 | 75.0 ± 0.0 (2) | 25 | 80.0 ± 0.0 (2) |" in report.tables()
    )
    assert (
        "| `fedlp-exits` | HeteroFL, wide levels | … | … | … | … | +10.0 [+10.0, +10.0] | … |" in report.differences()
    )


def test_as_int8_the_best_settings_alone_are_compared_where_there_are_trials() -> None:
    chosen = {("depthfl", "u", "bytes"): 3, ("depthfl", "u", "macs"): 2}
    wanted = [cell for cell in cells([1], chosen=chosen) if (cell.condition, cell.scheme) == ("tricks+int8", "depthfl")]
    settings: dict[tuple[str, str], set[int]] = {
        (mix, partition): set() for mix in MIXES for partition in ("iid", "mixed:0.95")
    }
    for cell in wanted:
        settings[cell.mix, cell.partition].add(cell.setting)
    assert settings == {("u", "mixed:0.95"): {2, 3}, ("u", "iid"): {0}, ("1", "mixed:0.95"): {0}, ("1", "iid"): {0}}
    # The first setting, which another scheme was given before its trials, has no column beside them.
    done = {f"tricks+int8/depthfl/u/mixed:0.95/1{word}": finished(0.7) for word in ("", "/setting-3")}
    tables = Report(done, FASHION_MNIST, chosen).tables()
    assert "| scheme | + best of 4 settings, `int8`, rounds | + best of 4 settings, `int8` |" in tables
    assert "### mixed .95, depths u, equal computation" not in tables


def test_the_quick_form_says_what_it_costs_and_draws_a_picture_for_each_equality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CellStore(tmp_path / "cells.jsonl")
    for cell in cells([1, 2], schemes=QUICK_SCHEMES):
        found = finished(0.7 + cell.seed / 100)
        if cell.memory:
            found = {**found, "rounds": {"memory": 10}, "reported": {"memory": [0.7]}}
        store.done[cell.name] = found
    text = quick(store, 2, tmp_path / "pictures")
    assert (
        capsys.readouterr().out
        == "0 cells of digits to compute, about 0 minutes with 2 workers where nothing else runs\n"
    )
    assert "| equal memory and tasks | `fedlp-plus` | ScaleFL |" not in text
    assert "| mixed .95, depths u | equal bytes | `fedlp-exits` | FIARSE | +0.0 [+0.0, +0.0] |" in text
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == ["schemes-bytes.png", "schemes-macs.png", "schemes-memory.png"]
    assert f"{tmp_path / 'pictures' / 'schemes-memory.png'}" in text
