"""When a fleet agrees on its class numbers, and who has a say."""

from __future__ import annotations

from pathlib import Path

from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.limits import LIMITS
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.storage.journal import Journal
from tests.fleets.standin import MODEL, blueprint


class World:
    """Two classes, samples of 1x2x2, and a clock that is set."""

    def __init__(self, directory: Path, test: tuple[str, ...] = (), model: ModelSettings = MODEL) -> None:
        self.now = 0.0
        self.journal = Journal(directory / "journal.sqlite")
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


def test_a_device_whose_samples_do_not_fit_has_no_say(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.classes.reported("x", named("screw", shape=(1, 8, 8)), 999)
    world.classes.reported("a", named("nut"), 5)
    world.now = 99.0
    assert not world.classes.tick()
    world.classes.reported("b", named("bolt"), 5)
    world.now += LIMITS.class_settle_seconds
    assert world.classes.tick()
    assert world.classes.names == ("bolt", "nut")
    assert world.classes.model.class_names == ("bolt", "nut")


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
