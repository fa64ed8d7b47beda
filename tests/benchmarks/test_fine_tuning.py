from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.fine_tuning import Row, layers_alone, row_of, table
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


def test_takes_the_layers_of_the_last_model_without_its_heads(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for number in (1, 2):
        tensors = {"L1.w": np.full(2, number, np.float32), "H1.w": np.ones(3, np.float32)}
        save_file(tensors, tmp_path / "checkpoints" / f"round-{number:05d}.safetensors")
        save_file({"m/L1.w": tensors["L1.w"]}, tmp_path / "checkpoints" / f"round-{number:05d}.server.safetensors")
    taken = load_file(layers_alone(tmp_path, tmp_path / "layers.safetensors"))
    assert {name: value.tolist() for name, value in taken.items()} == {"L1.w": [2.0, 2.0]}
