from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.reporting.plots import accuracy_figure, bytes_figure, draw_plots
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


def test_writes_nothing_before_the_first_round(tmp_path: Path, summary: Summary) -> None:
    assert draw_plots(msgspec.structs.replace(summary, rounds=()), tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_draws_one_line_per_depth_that_somebody_trains(two_rounds: Summary) -> None:
    (axes,) = accuracy_figure(two_rounds).axes

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
    (axes,) = accuracy_figure(msgspec.structs.replace(two_rounds, rounds=(first, silent, together))).axes

    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines["depth 3 (full): 90.0 %"] == ([1, 3], pytest.approx([75.0, 90.0]))
    assert lines["all exits together: 95.0 %"][0] == [1, 3]
    assert lines["all exits together: 95.0 %"][1][1] == pytest.approx(95.0)


def test_writes_no_empty_picture_where_nothing_was_judged(tmp_path: Path, summary: Summary) -> None:
    (entry,) = summary.rounds
    blind = msgspec.structs.replace(summary, rounds=(msgspec.structs.replace(entry, accuracy={}),))
    assert [path.name for path in draw_plots(blind, tmp_path)] == ["bytes.png"]
