from __future__ import annotations

from fedlp_edge.learning.data.tables.table_report import TableReport


def test_nothing_is_said_of_a_table_that_is_used_as_it_is() -> None:
    assert str(TableReport(rows=5, sparse=("a", 0))) == ""


def test_what_is_left_out_comes_before_what_is_doubtful() -> None:
    report = TableReport(empty=2, nested=("wave",), rows=3, far={"a": 5e9}, counters=("id",), alike=("OK", "ok"))
    assert str(report) == (
        "left out: 2 empty files, 1 column of lists or records (wave), which huggingface:FILE reads as samples; "
        "5e+09 in column 'a' is far from all other "
        "values, and scaling goes by it: if a sensor failed, add missing=5000000000; column 'id' numbers the rows and "
        "is used as a feature: name the features without it with features= if that is not meant; classes that differ "
        "in capitals alone count as different: OK, ok"
    )


def test_a_few_equal_times_are_a_clock_that_was_set_back_and_most_are_rounded() -> None:
    assert str(TableReport(rows=100, repeated=4)) == (
        "4 rows with the time of another row of their series, in the order of the file: local times do so when the "
        "clock is set back, UTC never does"
    )
    assert str(TableReport(rows=100, repeated=51)).endswith(
        "in the order of the file: the times may be rounded, as spreadsheets save 1.7041E+12, or be dates alone"
    )
