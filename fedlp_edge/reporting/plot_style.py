"""This module begins every figure of this project, in one style.

matplotlib takes half a second to import and is an extra, so it is imported when a figure is begun and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = "#e3e6ea"
TEXT = "#3c4550"
BLUE = "#3b7ddd"
ORANGE = "#e08a2e"

DPI = 144


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Makes an empty figure with a grid of axes, row by row.

    Args:
        rows: Number of rows of axes.
        columns: Number of columns of axes.
        size: Width and height in inches.
        share_y: Whether the axes of a row have the same y scale.
    """
    # A Figure object instead of pyplot needs no global state and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    axes = [one for row in grid for one in row]
    for one in axes:
        one.grid(axis="y", color=GRID)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(GRID)
        one.tick_params(colors=TEXT, length=0)
        one.yaxis.label.set_color(TEXT)
        one.xaxis.label.set_color(TEXT)
    return figure, axes


def set_title(axes: Axes, text: str) -> None:
    """Sets a title at the left of the axes."""
    axes.set_title(text, loc="left", color=TEXT, fontweight="bold")
