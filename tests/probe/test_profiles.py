"""Profiles are found by name or path, and every one that comes with the package is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import plan
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import ModelSettings, PlannerSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.probe.profiles import DeviceProfile, find_profile, load_profiles, profile_names

BOARDS = [
    "gpu-workstation",
    "jetson-nano",
    "jetson-orin-nano",
    "laptop",
    "phone-arm64",
    "n100-gateway",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4",
    "raspberry-pi-5",
]
CLASSES = ["class-xs", "class-s", "class-m", "class-l", "class-xl", "class-2xl", "class-3xl"]


def test_knows_boards_and_classes():
    assert profile_names() == sorted(BOARDS + CLASSES)


@pytest.mark.parametrize("name", BOARDS + CLASSES)
def test_every_profile_is_sound(name: str):
    profile = find_profile(name)
    assert profile.name == name
    assert profile.description


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_names_its_sources(name: str):
    profile = find_profile(name)
    assert profile.sources
    assert profile.ram_mb


def test_is_the_machine_as_it_is_without_a_profile():
    assert find_profile(None) == DeviceProfile(name="host")


def test_reads_a_profile_from_a_path(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nthreads = 2\ntraining_memory_mb = 64\n')
    profile = find_profile(str(path))
    assert (profile.name, profile.threads, profile.training_memory) == ("mine", 2, 64_000_000)


def test_suggests_names_that_are_close():
    with pytest.raises(ConfigError, match=r'no profile is called "raspbery-pi4"; did you mean raspberry-pi-'):
        find_profile("raspbery-pi4")


def test_lists_all_names_when_nothing_is_close():
    with pytest.raises(ConfigError, match=r"known are class-2xl, class-3xl"):
        find_profile("zzzzzz")


def test_names_the_line_of_a_wrong_key(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nthread = 2\n')
    with pytest.raises(ConfigError, match=r'mine\.toml:2: unknown key "thread".*threads'):
        find_profile(str(path))


@pytest.mark.parametrize(
    ("side", "depths"),
    [
        (8, {"xs": 1, "s": 2, "m": 3, "l": 5, "xl": 5, "2xl": 5, "3xl": 5}),
        (28, {"xs": 0, "s": 0, "m": 0, "l": 1, "xl": 2, "2xl": 4, "3xl": 5}),
    ],
)
def test_classes_get_the_depths_that_the_documentation_promises(side: int, depths: dict[str, int]):
    from fedlp_edge.learning.profiling.step_trace import with_step_costs
    from fedlp_edge.learning.zoo.build import build_model

    settings = ModelSettings(name="small-cnn", input=(1, side, side))
    model = build_model(settings, seed=0)
    blueprint = with_step_costs(model, model.blueprint("small-cnn"))

    rules = PlanningRules(planner=PlannerSettings(techniques=()), deadline_seconds=60.0)

    def depth(profile: DeviceProfile) -> int:
        facts = DeviceFacts(training_memory=profile.training_memory or 0, training_macs_per_second=1e12, samples=1)
        return plan(facts, blueprint, rules).depth

    assert {name: depth(find_profile(f"class-{name}")) for name in depths} == depths


def test_loads_all_profiles_of_a_directory_by_file_name(tmp_path: Path):
    (tmp_path / "b.toml").write_text('name = "first"\n')
    (tmp_path / "a.toml").write_text('name = "second"\n')
    (tmp_path / "notes.txt").write_text("no profile")
    assert [profile.name for profile in load_profiles(tmp_path)] == ["second", "first"]
    assert [profile.name for profile in load_profiles()] == profile_names()


def test_says_that_a_directory_holds_no_profile(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no profile; name a directory"):
        load_profiles(tmp_path / "absent")
