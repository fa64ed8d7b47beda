"""When a fleet agrees on its class numbers, and who has a say."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.limits import LIMITS
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.storage.journal import Journal
from tests.fleets.standin import MODEL, blueprint


class World:
    """Two classes, samples of 1x2x2, and a clock that is set."""

    def __init__(self, directory: Path, test: tuple[str, ...] = (), model: ModelSettings = MODEL) -> None:
        self.now = 0.0
        self.journal = Journal.open(directory / "journal.sqlite")
        own = named(*test) if test else None
        self.classes = FleetClasses(model, blueprint(), self.journal, own, 2, lambda: self.now)


def named(*names: str, shape: tuple[int, ...] = (1, 2, 2)) -> DataFacts:
    return DataFacts(sample_shape=shape, classes=names, labels=len(names), highest=len(names) - 1)


def test_waits_a_little_for_others_once_enough_have_reported(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert not world.classes.reported("b", named("nut"), 5)
    assert not world.classes.reported("c", named("nut"), 5)
    assert not world.classes.settled
    assert not world.classes.reported("a", named("bolt", "nut"), 50)
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.names == ("bolt", "nut")
    assert not world.classes.tick()
    assert world.journal.class_names() == ("bolt", "nut")


def test_settles_at_once_where_there_are_no_names_or_the_test_data_have_all(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.classes.reported("a", DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1), 5)
    assert world.classes.reported("b", None, 5)
    assert world.classes.settled
    (tmp_path / "other").mkdir()
    assert World(tmp_path / "other", ("nut", "bolt")).classes.names == ("nut", "bolt")


@pytest.mark.parametrize("first", ["useless", "good"])
def test_a_device_whose_samples_do_not_fit_has_no_say_and_is_not_waited_for(tmp_path: Path, first: str) -> None:
    world = World(tmp_path)
    reports = {"useless": named("screw", shape=(1, 8, 8)), "good": named("nut")}
    for device in sorted(reports, key=lambda name: name != first):
        world.classes.reported(device, reports[device], 5)
    assert not world.classes.settled
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.model.class_names == ("nut",)
    world.classes.reported("late", named("bolt"), 5)
    assert world.classes.names == ("nut", "bolt")


def test_nothing_is_settled_while_no_device_fits(tmp_path: Path) -> None:
    world = World(tmp_path)
    for device in ("x", "y", "z"):
        world.classes.reported(device, named("screw", shape=(1, 8, 8)), 5)
    world.now = 99.0
    assert not world.classes.tick()
    world.classes.reported("a", named("nut", "bolt"), 5)
    world.now += LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.names == ("nut", "bolt")


def test_a_restart_keeps_the_numbers_that_were_given(tmp_path: Path) -> None:
    world = World(tmp_path, ("nut", "bolt"))
    world.journal.close()
    again = World(tmp_path)
    assert again.classes.settled
    assert again.classes.names == ("nut", "bolt")
    assert again.classes.refusal(named("screw")) is not None


def test_a_class_that_comes_later_gets_the_next_number(tmp_path: Path) -> None:
    world = World(tmp_path)
    for device in ("a", "b"):
        world.classes.reported(device, named("nut"), 5)
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.reported("c", named("bolt", "nut"), 5)
    assert world.classes.names == ("nut", "bolt")
    assert world.journal.class_names() == ("nut", "bolt")


def measured(mean: float, *names: str) -> DataFacts:
    features = ColumnSums(names=names, count=2, mean=(mean,) * len(names), deviations=(2.0,) * len(names))
    return DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1, features=features)


def test_features_are_scaled_alike_once_enough_devices_have_told_of_theirs(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.classes.reported("a", measured(0.0, "x", "y"), 5)
    assert not world.classes.settled
    world.classes.reported("b", measured(2.0, "y", "x"), 5)
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.settled
    model = world.classes.model
    assert (model.input_names, model.input_mean, model.input_std) == (("x", "y"), (1.0, 1.0), (2**0.5, 2**0.5))
    again = FleetClasses(MODEL, blueprint(), world.journal, None, 2, lambda: 0.0)
    assert again.model.input_mean == (1.0, 1.0)
    reason = again.refusal(measured(0.0, "x"))
    assert reason is not None
    assert 'features that the samples lack: "y"' in reason


def test_known_class_names_wait_for_the_statistics_of_features(tmp_path: Path) -> None:
    world = World(tmp_path, model=msgspec.structs.replace(MODEL, class_names=("nut", "bolt")))
    world.classes.reported("a", measured(0.0, "x"), 5)
    assert not world.classes.settled
    world.classes.reported("b", measured(0.0, "x"), 5)
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.settled


def test_measurements_are_refused_where_classes_are_learned(tmp_path: Path) -> None:
    world = World(tmp_path)
    reason = world.classes.refusal(DataFacts(sample_shape=(1, 2, 2), target_kind="values"))
    assert reason is not None
    assert "the targets are measurements, and the fleet learns one class a sample" in reason


def test_targets_have_one_scale_from_what_all_devices_report(tmp_path: Path) -> None:
    model = msgspec.structs.replace(MODEL, task="regression", classes=2)

    def facts(mean: tuple[float, float]) -> DataFacts:
        targets = ColumnSums(names=("speed", "height"), count=2, mean=mean, deviations=(2.0, 8.0))
        return DataFacts(sample_shape=(1, 2, 2), classes=targets.names, target_kind="values", targets=targets)

    journal = Journal.open(tmp_path / "journal.sqlite")
    now = [0.0]
    classes = FleetClasses(model, blueprint(), journal, None, 2, lambda: now[0])
    classes.reported("a", facts((0.0, 10.0)), 2)
    classes.reported("b", facts((4.0, 10.0)), 2)
    assert not classes.settled
    now[0] = LIMITS.class_settle_seconds
    assert classes.tick()
    scaled = classes.model
    assert scaled.class_names == ("speed", "height")
    assert scaled.target_mean == (2.0, 10.0)
    assert scaled.target_std == (5**0.5, 2.0)
    assert FleetClasses(model, blueprint(), journal, None, 2, lambda: 0.0).model == scaled
    assert classes.refusal(DataFacts(sample_shape=(1, 2, 2), classes=("red", "blue"), labels=2, highest=1)) is not None


def test_says_what_devices_wait_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.classes.waiting_for == "the fleet waits for 2 others before it agrees on its data"
    world.classes.reported("a", named("nut"), 5)
    assert world.classes.waiting_for == "the fleet waits for another device before it agrees on its data"
    world.classes.reported("b", named("bolt"), 5)
    assert world.classes.waiting_for == "the fleet is agreeing on its data"


def test_features_of_one_early_device_do_not_keep_all_others_out(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.classes.reported("a", measured(0.0, "X"), 5)
    for device in ("b", "c"):
        world.classes.reported(device, measured(2.0, "x"), 5)
        assert world.classes.refusal(measured(2.0, "x")) is None
    world.now = LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert (world.classes.model.input_names, world.classes.model.input_mean) == (("x",), (2.0,))
    reason = world.classes.refusal(measured(0.0, "X"))
    assert reason == 'the fleet writes the features in other capitals: "X" is "x" there; rename the columns'


def test_a_device_with_another_unit_is_named_with_the_column(tmp_path: Path) -> None:
    world = World(tmp_path)
    volts, millivolts = (
        DataFacts(features=ColumnSums(names=("volt",), count=10, mean=(mean,), deviations=(mean,)))
        for mean in (12.0, 12e6)
    )
    world.classes.reported("a", volts, 5)
    assert world.classes.unlike_columns("a", volts) == []
    world.classes.reported("b", millivolts, 5)
    assert [column.name for column in world.classes.unlike_columns("b", millivolts)] == ["volt"]
    assert world.classes.unlike_columns("a", volts) == []
