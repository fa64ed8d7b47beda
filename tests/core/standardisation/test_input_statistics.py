"""How a fleet agrees on the statistics of its features."""

from __future__ import annotations

from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.standardisation.input_statistics import InputStatistics


def site(*names: str, mean: float) -> ColumnSums:
    count = len(names)
    return ColumnSums(names=names, count=2, mean=tuple(mean + i for i in range(count)), deviations=(0.0,) * count)


def test_the_order_of_reports_and_columns_does_not_matter() -> None:
    agreed = []
    for order in ("xy", "yx"):
        statistics = InputStatistics()
        for name in order:
            statistics.offer(name, {"x": site("a", "b", mean=1.0), "y": site("b", "a", mean=5.0)}[name])
        assert statistics.open
        assert statistics.settle()
        assert not statistics.open
        agreed.append(statistics.agreed)
    assert agreed[0] == agreed[1]
    assert agreed[0] is not None
    assert (agreed[0].names, agreed[0].mean) == (("a", "b"), (3.5, 3.5))


def test_what_was_agreed_does_not_change() -> None:
    statistics = InputStatistics(site("a", mean=1.0))
    statistics.offer("x", site("a", mean=9.0))
    assert not statistics.open
    assert not statistics.settle()
    assert statistics.agreed == site("a", mean=1.0)


def test_the_features_of_most_sites_count_whoever_reports_first() -> None:
    for order in ("xyz", "zyx"):
        statistics = InputStatistics()
        offers = {"x": site("A", "b", mean=9.0), "y": site("a", "b", mean=1.0), "z": site("b", "a", mean=3.0)}
        for name in order:
            statistics.offer(name, offers[name])
        assert statistics.names == ()
        assert statistics.settle()
        assert statistics.agreed is not None
        assert (statistics.agreed.names, statistics.agreed.mean) == (("a", "b"), (2.5, 2.5))


def test_among_as_many_sites_those_with_more_values_count_whoever_reports_first() -> None:
    for order in ("xy", "yx"):
        statistics = InputStatistics()
        offers = {"x": site("a", mean=1.0), "y": ColumnSums(names=("b",), count=3, mean=(1.0,), deviations=(0.0,))}
        for name in order:
            statistics.offer(name, offers[name])
        assert statistics.settle()
        assert statistics.names == ("b",)


def test_a_deciding_site_goes_before_any_number_of_others() -> None:
    statistics = InputStatistics()
    statistics.offer("x", site("A", mean=1.0))
    statistics.offer("y", site("A", mean=1.0))
    statistics.offer("", site("a", mean=4.0), decides=True)
    assert statistics.names == ("a",)
    assert statistics.settle()
    assert statistics.agreed == site("a", mean=4.0)
