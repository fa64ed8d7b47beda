from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.answer_counts import AnswerCounts, ValueCounts
from fedlp_edge.reporting.plots import bytes_figure, confusion_figure, draw_plots, metric_figure, values_figure
from fedlp_edge.reporting.summary import Summary


@pytest.fixture
def two_rounds(summary: Summary) -> Summary:
    (first,) = summary.rounds
    second = msgspec.structs.replace(first, round=2, accuracy={1: 0.6, 3: 0.9})
    return msgspec.structs.replace(summary, rounds=(first, second))


def test_writes_both_pictures(tmp_path: Path, summary: Summary) -> None:
    paths = draw_plots(summary, tmp_path)

    assert [path.name for path in paths] == ["accuracy.png", "bytes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_run_without_matplotlib_ends_without_pictures(
    tmp_path: Path, summary: Summary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert draw_plots(summary, tmp_path) == ()
    assert caplog.messages == [
        'no pictures of the run are drawn without matplotlib: pip install "fedlp-edge[coordinator]"'
    ]


def test_run_with_a_matplotlib_that_cannot_be_loaded_ends_without_pictures(
    tmp_path: Path, summary: Summary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "matplotlib" / "__init__.py"
    package.parent.mkdir()
    package.write_text("raise ImportError('numpy.core.multiarray failed to import')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert draw_plots(summary, tmp_path) == ()
    assert caplog.messages == [
        "no pictures of the run are drawn: a package cannot be loaded (ImportError: numpy.core.multiarray failed to "
        "import): it is built for another version of NumPy; update it"
    ]


def test_says_in_one_line_that_a_picture_cannot_be_written(tmp_path: Path, summary: Summary) -> None:
    with pytest.raises(StorageError, match=r"^the picture .*accuracy\.png was not drawn: No such file or directory$"):
        draw_plots(summary, tmp_path / "removed")
    (tmp_path / "accuracy.png").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"accuracy\.png was not drawn: No space left on device$"):
        draw_plots(summary, tmp_path)


def test_writes_nothing_before_the_first_round(tmp_path: Path, summary: Summary) -> None:
    assert draw_plots(msgspec.structs.replace(summary, rounds=()), tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_draws_one_line_per_depth_that_somebody_trains(two_rounds: Summary) -> None:
    (axes,) = metric_figure(two_rounds).axes

    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines == {
        "depth 3 (full): 90.0 %": pytest.approx([75.0, 90.0]),
    }


def test_draws_bytes_per_round_and_in_total(two_rounds: Summary) -> None:
    per_round, in_total = bytes_figure(two_rounds).axes

    assert [bar.get_height() for bar in per_round.patches] == pytest.approx([0.009, 0.009, 0.0081, 0.0081])  # type: ignore[attr-defined]
    assert [list(line.get_ydata()) for line in in_total.get_lines()] == [
        pytest.approx([0.009, 0.018]),
        pytest.approx([0.0081, 0.0162]),
    ]


def test_draws_judged_rounds_alone_and_all_exits_together(two_rounds: Summary) -> None:
    first, second = two_rounds.rounds
    silent = msgspec.structs.replace(first, accuracy={})
    together = msgspec.structs.replace(second, round=3, ensemble={1: 0.6, 3: 0.95})
    (axes,) = metric_figure(msgspec.structs.replace(two_rounds, rounds=(first, silent, together))).axes

    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines["depth 3 (full): 90.0 %"] == ([1, 3], pytest.approx([75.0, 90.0]))
    assert lines["all exits together: 95.0 %"][0] == [1, 3]
    assert lines["all exits together: 95.0 %"][1][1] == pytest.approx(95.0)


def test_draws_the_deepest_exit_alone_beside_the_mean_of_exits(two_rounds: Summary) -> None:
    rounds = tuple(
        msgspec.structs.replace(entry, answer="mean", exits={1: 0.5, 3: 0.25}) for entry in two_rounds.rounds
    )
    (axes,) = metric_figure(msgspec.structs.replace(two_rounds, rounds=rounds)).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines["depth 3 (full): 90.0 %"] == pytest.approx([75.0, 90.0])
    assert lines["exit 3 alone: 25.0 %"] == pytest.approx([25.0, 25.0])
    assert axes.get_title(loc="left").endswith("accuracy of the mean of the exits by depth")


def test_writes_no_empty_picture_where_nothing_was_judged(tmp_path: Path, summary: Summary) -> None:
    (entry,) = summary.rounds
    blind = msgspec.structs.replace(summary, rounds=(msgspec.structs.replace(entry, accuracy={}),))
    assert [path.name for path in draw_plots(blind, tmp_path)] == ["bytes.png"]


def on_devices(mean: float, spread: float) -> dict[int, DeviceScores]:
    return {3: DeviceScores(devices=2, samples=20, mean={"rmse": mean}, spread={"rmse": spread})}


def test_draws_what_devices_measured_at_the_round_whose_model_it_is(two_rounds: Summary) -> None:
    first, second = (msgspec.structs.replace(entry, accuracy={}) for entry in two_rounds.rounds)
    assert two_rounds.final is not None
    judged = msgspec.structs.replace(
        two_rounds,
        metric="rmse",
        task="regression",
        rounds=(first, msgspec.structs.replace(second, on_devices=on_devices(4.0, 0.5))),
        final=msgspec.structs.replace(two_rounds.final, round=2, on_devices=on_devices(3.0, 0.25)),
    )
    (axes,) = metric_figure(judged).axes

    (line,) = axes.get_lines()
    assert (line.get_label(), list(line.get_xdata()), list(line.get_ydata())) == (
        "depth 3 (full) on devices: 3", [1, 2], [4.0, 3.0],
    )  # fmt: skip
    assert axes.get_ylabel() == "RMSE on held-out data"
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().y1 == 4.5


def test_names_the_pictures_by_the_metric_and_by_what_they_show(tmp_path: Path, summary: Summary) -> None:
    counts = AnswerCounts(
        source="central",
        depth=3,
        samples=3,
        values=(ValueCounts(name="load", unit="kW", low=0.0, high=4.0, counts=((1, 0), (0, 2))),),
    )
    (entry,) = summary.rounds
    assert summary.final is not None
    judged = msgspec.structs.replace(
        summary,
        metric="rmse",
        rounds=(msgspec.structs.replace(entry, accuracy={}, metrics={3: {"rmse": 2.0}}),),
        final=msgspec.structs.replace(summary.final, answers=counts),
    )
    names = ["rmse.png", "predicted-against-true.png", "bytes.png"]
    assert [path.name for path in draw_plots(judged, tmp_path)] == names
    panel = values_figure("m", counts).axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_xlim()) == (
        "true load (kW)",
        "predicted (kW)",
        (0.0, 4.0),
    )


def test_draws_a_confusion_matrix_with_the_names_of_its_classes() -> None:
    counts = AnswerCounts(source="devices", depth=2, samples=6, names=("a", "$b"), confusion=((3, 1), (0, 2)))
    axes = confusion_figure("m", counts).axes[0]

    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 1.0]]  # type: ignore[union-attr]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", r"\$b"]
    assert axes.get_title(loc="left") == "m, depth 2: 6 samples that devices hold out"
