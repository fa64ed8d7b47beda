"""Which columns look as if they had another unit than on the other sites."""

from __future__ import annotations

import pytest

from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.standardisation.unlike_columns import unlike_columns


def volts(mean: float, std: float) -> ColumnSums:
    return ColumnSums(names=("volt", "load"), count=10, mean=(mean, 1.0), deviations=(10 * std * std, 10.0))


def test_a_column_in_another_unit_is_found_by_its_mean_and_its_spread() -> None:
    found = unlike_columns(volts(12000.0, 500.0), [volts(12.0, 0.5), volts(12.5, 0.4)])
    assert [str(column) for column in found] == ['"volt" (mean 1.2e+04, elsewhere 12)']
    small = unlike_columns(volts(12.0, 0.5), [volts(12000.0, 500.0), volts(12100.0, 500.0)])
    assert [(column.name, column.mean) for column in small] == [("volt", 12.0)]


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (volts(12.0, 0.5), [volts(12000.0, 500.0)]),  # of two, the larger one is named
        (volts(12.0, 0.5), [volts(12000.0, 500.0), volts(12.5, 0.4)]),  # the odd one is among the others
        (volts(240.0, 10.0), [volts(12.0, 0.5), volts(12.0, 0.5)]),  # another machine
        (volts(12000.0, 0.0), [volts(12.0, 0.5)]),  # a sensor that never changes
        (volts(12000.0, 0.5), [volts(12.0, 0.5)]),  # another place on the same scale
        (volts(12000.0, 500.0), []),
        (volts(12000.0, 500.0), [ColumnSums(names=("other",), count=10, mean=(1.0,), deviations=(1.0,))]),
    ],
)
def test_what_may_be_so_is_no_other_unit(own: ColumnSums, others: list[ColumnSums]) -> None:
    assert unlike_columns(own, others) == []
