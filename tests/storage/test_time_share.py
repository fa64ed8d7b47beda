from __future__ import annotations

from fedlp_edge.storage.time_share import TimeShare


class Clock:
    seconds = 10.0

    def __call__(self) -> float:
        return self.seconds


def test_work_waits_as_many_times_as_long_as_it_took() -> None:
    clock = Clock()
    share = TimeShare(0.01, clock)
    assert share.is_due

    with share.measured():
        clock.seconds = 12.0
    clock.seconds = 209.0
    assert not share.is_due
    clock.seconds = 210.0
    assert share.is_due


def test_work_that_takes_no_time_is_always_due() -> None:
    share = TimeShare(0.01, Clock())

    with share.measured():
        pass

    assert share.is_due


def test_work_that_may_take_all_of_the_time_never_waits() -> None:
    clock = Clock()
    share = TimeShare(1.0, clock)

    with share.measured():
        clock.seconds = 500.0

    assert share.is_due
