"""This module plots exported models: what each is worth against its time, its size and its memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedlp_edge.core.model_card import CardEntry, ModelCard
from fedlp_edge.reporting.formatting import is_share, metric_label
from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREEN = "#3a9a6b"
_COLOURS = {"fp32": BLUE, "fp16": _GREEN, "int8": ORANGE}


def card_figure(card: ModelCard) -> Figure:
    """Makes a figure with one line per precision, one point per depth, and a star for a file with early exits."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    figure, axes = new_figure(1, 3, size=(12, 4.2), share_y=True)
    measured = [(entry, *_costs(entry)) for entry in card.files if entry.cost is not None]
    percent = is_share(card.metric)
    for number, (one, label) in enumerate(
        zip(axes, ("mean time of an answer, ms", "size of the file, MB", "memory, MB"), strict=True)
    ):
        for precision, colour in _COLOURS.items():
            points = [
                (costs[number], _height(entry, card), entry)
                for entry, *costs in measured
                if entry.precision == precision
            ]
            depths = [point for point in points if not point[2].exits]
            stars = [point for point in points if point[2].exits]
            if depths:
                one.plot(
                    [x for x, _, _ in depths],
                    [y for _, y, _ in depths],
                    "o-",
                    color=colour,
                    label=precision,
                    markersize=5,
                )
            for x, y, entry in depths:
                one.annotate(str(entry.depth), (x, y), xytext=(0, 5), textcoords="offset points", ha="center",
                             fontsize="x-small", color=colour)  # fmt: skip
            if stars:
                one.plot([x for x, _, _ in stars], [y for _, y, _ in stars], "*", color=colour, markersize=13,
                         label=f"{precision}, early exit")  # fmt: skip
        one.set_xlabel(label)
        one.set_xscale("log")
        one.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.xaxis.set_minor_formatter(NullFormatter())
        one.grid(axis="x", which="major", color="#eef0f3")
    word = metric_label(card.metric) if card.metric else "same answer as PyTorch"
    axes[0].set_ylabel(f"{word}, %" if percent or not card.metric else word)
    set_title(axes[0], f"{card.model}, by depth")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, labelcolor=TEXT, fontsize="small")
    return figure


def draw_card(card: ModelCard, path: Path) -> None:
    """Writes the figure to a file whose suffix decides the format.

    Raises:
        OSError: The file cannot be written.
    """
    card_figure(card).savefig(path, dpi=DPI)


def _costs(entry: CardEntry) -> tuple[float, float, float]:
    if entry.cost is None:
        return (0.0, 0.0, 0.0)
    return (entry.cost.mean_milliseconds, entry.bytes / 1e6, max(entry.cost.memory, 1) / 1e6)


def _height(entry: CardEntry, card: ModelCard) -> float:
    """Returns the value of a file or, without one, the share of answers that are PyTorch's, in per cent if a share."""
    if entry.value is None:
        return 100 * entry.agreement
    return 100 * entry.value if is_share(card.metric) else entry.value
