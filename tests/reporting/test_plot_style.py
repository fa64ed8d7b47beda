from __future__ import annotations

from importlib.util import find_spec

import pytest

from fedlp_edge.reporting.plot_style import new_figure, set_title

pytestmark = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")


def test_axes_come_row_by_row_without_a_frame() -> None:
    figure, axes = new_figure(2, 3, size=(6.0, 4.0))

    assert figure.get_size_inches().tolist() == [6.0, 4.0]
    assert axes == figure.axes
    places = [one.get_subplotspec() for one in axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places if place] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    assert not any(one.spines["top"].get_visible() or one.spines["right"].get_visible() for one in axes)


def test_rows_have_one_scale_only_if_asked() -> None:
    for shared in (True, False):
        _, (left, right) = new_figure(1, 2, size=(4.0, 2.0), share_y=shared)
        left.set_ylim(0, 7)
        assert (right.get_ylim() == (0, 7)) is shared


def test_title_stands_at_the_left() -> None:
    _, (axes,) = new_figure(size=(2.0, 2.0))

    set_title(axes, "accuracy")

    assert axes.get_title(loc="left") == "accuracy"
    assert axes.get_title() == ""
