from benchmarks.fine_tuning import Row, row_of, table
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary, Summary


def summary(*accuracy: float) -> Summary:
    """Rounds in which the exits of depths 1 and 2 have an accuracy of 0.9 and of the given one."""
    devices = tuple(
        DeviceRound(id=f"dev-{depth}", profile="", depth=depth, lpr=1.0, status="contributed", bytes_up=1000 * depth)
        for depth in (1, 2)
    )
    rounds = tuple(
        RoundSummary(round=number, seconds=1.0, accuracy={1: 0.9, 2: value}, devices=devices, coverage={})
        for number, value in enumerate(accuracy, start=1)
    )
    return Summary(run="r", fleet="f", model="m", rounds=rounds)


def test_counts_the_rounds_to_the_accuracy_of_the_last_one_from_random_values() -> None:
    scratch = row_of("a", "random", summary(0.2, 0.5, 0.6), None)
    assert scratch == Row("a", "random", (0.2, 0.5, 0.6), 3, 2.0)
    assert row_of("a", "tuned", summary(0.4, 0.7, 0.5), 0.6).reached == 2
    assert row_of("a", "tuned", summary(0.4, 0.5, 0.5), 0.6).reached is None


def test_shows_some_rounds_of_each_fleet() -> None:
    accuracy = tuple(number / 100 for number in range(1, 21))
    assert table([Row("a", "b", accuracy, None, 12.3)]).splitlines()[-1] == (
        "| a | b | 1.0 | 3.0 | 5.0 | 10.0 | 20.0 | never | 12 |"
    )
