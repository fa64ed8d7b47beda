from __future__ import annotations

from fedlp_edge.reporting.cards.model_card_plot import card_figure
from tests.reporting.cards.test_model_card_page import CARD


def test_each_panel_has_a_point_per_depth_and_a_star_for_early_exits() -> None:
    figure = card_figure(CARD)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "mean time of an answer, ms", "size of the file, MB", "memory, MB"
    ]  # fmt: skip
    dots, star = figure.axes[0].lines
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([1.5], [90.0])
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([1.5], [89.0])
