"""This module draws the two plots of a run directory: accuracy by depth, and traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title
from fedlp_edge.reporting.summary import Summary, trained_exits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOWN, _UP = BLUE, ORANGE


def draw_plots(summary: Summary, directory: Path) -> tuple[Path, ...]:
    """Writes ``accuracy.png``, if the run was evaluated, and ``bytes.png``; nothing before the first round.

    Args:
        summary: Summary of the run so far.
        directory: Existing directory of the files.

    Returns:
        Paths of the written files.
    """
    if not summary.rounds:
        return ()
    figures = {"bytes.png": bytes_figure}
    if any(entry.accuracy for entry in summary.rounds):
        figures = {"accuracy.png": accuracy_figure, **figures}
    written = []
    for name, draw in figures.items():
        path = directory / name
        draw(summary).savefig(path, dpi=DPI)
        written.append(path)
    return tuple(written)


def accuracy_figure(summary: Summary) -> Figure:
    """Makes the figure of held-out accuracy over the rounds, with one line per depth that some device trains."""
    from matplotlib import colormaps  # noqa: PLC0415

    figure, (axes,) = new_figure(size=(8, 4.6))
    judged = [entry for entry in summary.rounds if entry.accuracy]
    rounds = [entry.round for entry in judged]
    measured = {depth for entry in judged for depth in entry.accuracy}
    depths = sorted(measured & trained_exits(summary))
    colours = [colormaps["viridis"](0.08 + 0.78 * index / max(1, len(depths) - 1)) for index in range(len(depths))]
    for depth, colour in zip(reversed(depths), colours, strict=True):
        shares = [100 * entry.accuracy.get(depth, float("nan")) for entry in judged]
        label = f"depth {depth}" + (" (full)" if depth == max(measured) else "")
        axes.plot(
            rounds, shares, color=colour, linewidth=2, marker="o", markersize=4, label=f"{label}: {shares[-1]:.1f} %"
        )
    if any(entry.ensemble for entry in judged):
        together = [100 * entry.ensemble.get(max(measured), float("nan")) for entry in judged]
        label = f"all exits together: {together[-1]:.1f} %"
        axes.plot(rounds, together, color=TEXT, linewidth=1.5, linestyle="--", label=label)
    axes.set_ylabel("accuracy on held-out data (%)")
    axes.set_ylim(0, 101)
    if depths:
        axes.legend(frameon=False, loc="lower right", labelcolor=TEXT)
    set_title(axes, f"{summary.model}: accuracy by depth")
    _round_axis(axes, [entry.round for entry in summary.rounds])
    return figure


def bytes_figure(summary: Summary) -> Figure:
    """Makes the figure of transferred bytes: per round above, in total below."""
    figure, (per_round, in_total) = new_figure(rows=2, size=(8, 5.6))
    rounds = [entry.round for entry in summary.rounds]
    down = [sum(device.bytes_down for device in entry.devices) / 1e6 for entry in summary.rounds]
    up = [sum(device.bytes_up for device in entry.devices) / 1e6 for entry in summary.rounds]

    width = 0.38
    per_round.bar([r - width / 2 for r in rounds], down, width, color=_DOWN, label="to the devices")
    per_round.bar([r + width / 2 for r in rounds], up, width, color=_UP, label="from the devices")
    per_round.set_ylabel("MB a round")
    set_title(per_round, f"{summary.model}: model bytes on the wire")
    per_round.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0.55, 1.0), ncols=2, borderaxespad=0.2, labelcolor=TEXT
    )

    # The larger total is labelled above its point and the other below, and dashes let a covered line through:
    # with nothing pruned the two are equal.
    totals = sorted([(_running(down), _DOWN, "down"), (_running(up), _UP, "up")], key=lambda total: -total[0][-1])
    for (values, colour, label), style, place in zip(totals, ("-", "--"), ("bottom", "top"), strict=True):
        in_total.plot(rounds, values, color=colour, linewidth=2, linestyle=style, marker="o", markersize=4)
        in_total.annotate(
            f"{label} {values[-1]:.1f} MB",
            (rounds[-1], values[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            va=place,
            color=colour,
            annotation_clip=False,
        )
    in_total.set_ylabel("MB in total")
    in_total.set_ylim(bottom=0)
    for axes in (per_round, in_total):
        _round_axis(axes, rounds)
    per_round.set_xlabel("")
    return figure


def _round_axis(axes: Axes, rounds: list[int]) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    axes.set_xlabel("round")


def _running(values: list[float]) -> list[float]:
    total = 0.0
    sums = []
    for value in values:
        total += value
        sums.append(total)
    return sums
