"""This module plots the class distribution of the devices: one column per device, one colour per class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedlp_edge.reporting.plot_style import DPI, TEXT, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_COLOURS = 20


def distribution_figure(classes: tuple[str, ...], counts: npt.NDArray[np.int64], title: str) -> Figure:
    """Makes a figure of stacked bars, in the order of the devices.

    Args:
        classes: Class names by class number.
        counts: Number of samples by device and class, int64 [devices, classes].
        title: Title of the figure.
    """
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure, (axes,) = new_figure(size=(9, 4.2))
    devices = np.arange(len(counts))
    few = len(classes) <= _NAMED_COLOURS
    colours = colormaps["tab10" if len(classes) <= 10 else "tab20"] if few else colormaps["viridis"]
    below = np.zeros(len(counts), dtype=np.int64)
    for label, name in enumerate(classes):
        colour = colours(label) if few else colours(label / (len(classes) - 1))
        axes.bar(devices, counts[:, label], width=0.9, bottom=below, color=colour, label=name, linewidth=0)
        below += counts[:, label]
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_xlabel("device")
    axes.set_ylabel("samples")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    set_title(axes, title)
    if few:
        figure.legend(loc="outside right upper", frameon=False, labelcolor=TEXT, fontsize="small")
    return figure


def draw_distribution(classes: tuple[str, ...], counts: npt.NDArray[np.int64], title: str, path: Path) -> None:
    """Writes the figure to a file whose suffix decides the format.

    Raises:
        OSError: The file cannot be written.
        ValueError: The format is unknown.
    """
    distribution_figure(classes, counts, title).savefig(path, dpi=DPI)
