"""Which file of a release a device gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.rollout.file_choice import FileWishes, choose_file, offered_files, why_none
from coordinator.rollout.release_files import ReleaseFile
from tests.coordinator.fleets import facts


def file(depth: int, precision: str = "fp32", *, memory: int = 0, early_exit: bool = False) -> ReleaseFile:
    return ReleaseFile(Path(f"m-d{depth}.onnx"), depth, precision, "0" * 64, 100, memory, early_exit)


FILES = (file(2), file(4, memory=1000), file(6, memory=5000), file(6, "int8", memory=500), file(6, early_exit=True))


@pytest.mark.parametrize(
    ("wishes", "memory", "planned", "expected"),
    [
        ({}, 10_000, None, (6, "fp32")),
        ({}, 2_000, None, (4, "fp32")),
        ({}, 500, None, (2, "fp32")),
        ({}, 50, None, None),
        ({}, 10_000, 4, (4, "fp32")),
        ({}, 10_000, 5, (4, "fp32")),
        ({}, 10_000, 1, (2, "fp32")),
        ({"precision": "int8"}, 2_000, None, (6, "int8")),
        ({"depth": 4}, 10_000, 2, (4, "fp32")),
        ({"depth": 5}, 10_000, None, None),
        ({"precision": "fp16"}, 10_000, None, None),
    ],
)
def test_deepest_file_within_the_limits_of_the_device(
    wishes: dict, memory: int, planned: int | None, expected: tuple[int, str] | None
) -> None:
    chosen = choose_file(FILES, FileWishes(**wishes), facts(memory=memory), planned)
    assert (chosen and (chosen.depth, chosen.precision)) == expected


def test_early_exits_are_for_those_who_want_them() -> None:
    chosen = choose_file(FILES, FileWishes(early_exit=True), None, 2)
    assert chosen is not None
    assert chosen.early_exit


def test_devices_that_measure_get_all_that_may_suit_them() -> None:
    wishes, four = FileWishes(measured=True), FILES[1]
    assert offered_files(FILES, wishes, facts(memory=10_000), four) == (four, FILES[0])
    assert offered_files(FILES, wishes, facts(memory=2_000), FILES[3]) == (FILES[3], FILES[0], four, FILES[4])
    assert offered_files(FILES, FileWishes(), None, four) == ()
    assert offered_files((four,), wishes, None, four) == ()


def test_device_that_no_file_suits_is_told_what_it_lacks() -> None:
    assert why_none(FILES, FileWishes(precision="int8"), facts(memory=400)) == (
        "answers of the smallest file that is asked for take 500 B, and it has 400 B"
    )
    assert why_none(FILES, FileWishes(depth=5), facts(memory=400)) == "no file of the release suits it"
