from pathlib import Path

import msgspec
import numpy as np

from benchmarks import fine_tuning_text
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


def test_counts_the_rounds_to_the_mean_accuracy_of_the_last_ones_from_random_values() -> None:
    scratch = row_of("a", "random", summary(0.1, 0.25, 0.5, 0.75), None)
    assert scratch == Row("a", "random", (0.1, 0.25, 0.5, 0.75), 0.5, 3, 2.0)
    assert row_of("a", "tuned", summary(0.4, 0.7, 0.5), 0.6).reached == 2
    assert row_of("a", "tuned", summary(0.4, 0.5, 0.5), 0.6).reached is None


def test_shows_some_rounds_of_each_fleet() -> None:
    accuracy = tuple(number / 100 for number in range(1, 21))
    assert table([Row("a", "b", accuracy, 0.25, None, 12.3)]).splitlines()[-1] == (
        "| a | b | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 25.0 | never | 12 |"
    )


def test_texts_to_choose_by_are_none_of_those_that_are_learned(tmp_path: Path) -> None:
    texts = fine_tuning_text.VALIDATION + 3
    x = np.arange(texts)[:, None]
    np.savez(tmp_path / "all.npz", x=x, y=x[:, 0] % 2, classes=np.array(["a", "b"]))
    specifications = fine_tuning_text.split_texts(tmp_path, tmp_path)
    learned, validation = (np.load(specification.removeprefix("npz:"))["x"] for specification in specifications)
    assert learned[:, 0].tolist() == [texts - 3, texts - 2, texts - 1]
    assert len(validation) == fine_tuning_text.VALIDATION


def test_only_start_weights_and_rounds_differ_between_fleets_on_texts() -> None:
    options = fine_tuning_text.Options()
    random, published = (
        fine_tuning_text.fleet_of("digits", "digits", start, Path("w.pt"), options) for start in ("random", "published")
    )
    assert (random.rounds.count, published.rounds.count) == (20, 5)
    model = msgspec.structs.replace(published.model, weights="")
    assert msgspec.structs.replace(published, model=model, rounds=random.rounds) == random


def test_shows_the_best_and_the_last_round_of_fleets_on_texts() -> None:
    row = fine_tuning_text.Row("published", 0.0005, (0.1, 0.2, 0.3, 0.5, 0.45))
    assert fine_tuning_text.table([row]).splitlines()[-1] == (
        "| published | 0.0005 | 10.0 | 20.0 | 30.0 | 50.0 | 45.0 | 50.0 | 45.0 | 5 |"
    )
