from pathlib import Path

import pytest

from device_agent.data_watch import DataWatch, data_fingerprint
from device_agent.limits import LIMITS
from fedlp_edge.learning.data.spec.parsing import parse_spec


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_loads_again_what_has_changed_once_two_looks_have_seen_the_same():
    clock, marks = Clock(), iter(["one", "two", "three", "three", "three"])
    watch = DataWatch(lambda: next(marks), clock)
    watch.loading()
    seen = []
    for _ in range(3):
        assert watch.next_wakeup() == clock.now + LIMITS.data_watch.interval_seconds
        clock.now += LIMITS.data_watch.interval_seconds
        seen.append(watch.changed())
    assert seen == [False, False, True]
    assert watch.changed(), "until they are loaded"
    watch.loading()
    assert not watch.changed()


def test_loads_again_what_changes_all_the_time_after_a_while():
    clock = Clock()
    watch = DataWatch(lambda: str(clock.now), clock)  # a logger adds a line every second
    watch.loading()
    seen = []
    for _ in range(21):
        clock.now += LIMITS.data_watch.interval_seconds
        seen.append(watch.changed())
    assert seen == [False] * 20 + [True], "ten minutes after the first look that saw other data"
    watch.loading()
    clock.now += LIMITS.data_watch.interval_seconds
    assert not watch.changed()


def test_looks_at_a_folder_that_takes_long_more_rarely():
    clock = Clock()

    def slow() -> str:
        clock.now += 2.0
        return "same"

    watch = DataWatch(slow, clock)
    watch.loading()
    assert watch.next_wakeup() == 2.0 + 100.0


def test_does_not_look_where_there_is_nothing_to_look_at():
    watch = DataWatch(lambda: data_fingerprint(parse_spec("digits")), Clock())
    watch.loading()
    assert watch.next_wakeup() is None
    assert not watch.changed()


def test_mark_tells_what_changes_behind_a_link(tmp_path: Path):
    disk, folder = tmp_path / "disk", tmp_path / "parts"
    disk.mkdir()
    folder.mkdir()
    (folder / "nut").symlink_to(disk)
    (disk / "again").symlink_to(folder)
    before = data_fingerprint(parse_spec(f"imagefolder:{folder}"))
    (disk / "a.png").write_bytes(b"a")
    assert data_fingerprint(parse_spec(f"imagefolder:{folder}")) != before


@pytest.mark.parametrize("change", ["more", "fewer", "other", "gone"])
def test_mark_tells_whatever_changes_in_a_folder(tmp_path: Path, change: str):
    folder = tmp_path / "nut"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"a")
    (folder / "b.png").write_bytes(b"b")
    spec = parse_spec(f"imagefolder:{tmp_path}")
    before = data_fingerprint(spec)
    assert data_fingerprint(spec) == before
    match change:
        case "more":
            (folder / "c.png").write_bytes(b"c")
        case "fewer":
            (folder / "a.png").unlink()
        case "other":
            (folder / "a.png").write_bytes(b"longer")
        case "gone":
            folder.rename(tmp_path.with_name("elsewhere"))
    assert data_fingerprint(spec) != before
