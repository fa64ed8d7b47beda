"""This module draws the pictures of a run directory: the run's metric by depth, the model's answers, and traffic."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.answer_counts import AnswerCounts, ValueCounts
from fedlp_edge.reporting.formatting import format_metric, is_share, metric_label
from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title
from fedlp_edge.reporting.summary import RoundSummary, Summary, trained_exits, values_of
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.loading.loading_errors import loading_failure
from fedlp_edge.system.printable import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger("fedlp.reporting")

_DOWN, _UP = BLUE, ORANGE

MAX_NUMBERED_CLASSES = 16
"""Most classes for which the picture of a confusion matrix shows the number in each cell."""

MAX_NAMED_CLASSES = 40
"""Most classes whose names the picture of a confusion matrix shows."""


def draw_plots(summary: Summary, directory: Path) -> tuple[Path, ...]:
    """Writes the pictures of a run that it has something for; nothing before the first round, or without matplotlib.

    ``METRIC.png``, such as ``accuracy.png``, has the run's metric over the rounds, ``confusion.png`` the confusion
    matrix of the final model, ``predicted-against-true.png`` the answers of a regression, ``bytes.png`` the traffic.

    Args:
        summary: Summary of the run so far.
        directory: Existing directory of the files.

    Returns:
        Paths of the written files.

    Raises:
        StorageError: The disk is full, or the directory was removed.
    """
    if not summary.rounds:
        return ()
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        log.warning(f"no pictures of the run are drawn without matplotlib: {install_command('coordinator')}")
        return ()
    except ImportError as error:  # that of the system, say, which is built for another NumPy
        log.warning(f"no pictures of the run are drawn: {loading_failure(error)}")
        return ()
    figures: dict[str, Callable[[], Figure]] = {}
    if _central(summary) or _on_devices(summary):
        figures[f"{summary.metric}.png"] = lambda: metric_figure(summary)
    answers = summary.final.answers if summary.final else None
    if answers is not None and answers.confusion:
        figures["confusion.png"] = lambda: confusion_figure(summary.model, answers)
    if answers is not None and answers.values:
        figures["predicted-against-true.png"] = lambda: values_figure(summary.model, answers)
    figures["bytes.png"] = lambda: bytes_figure(summary)
    written = []
    for name, draw in figures.items():
        path = directory / name
        try:
            draw().savefig(path, dpi=DPI)
        except OSError as error:
            raise StorageError(f"the picture {path} was not drawn: {error.strerror}") from None
        written.append(path)
    return tuple(written)


def metric_figure(summary: Summary) -> Figure:
    """Makes the figure of the run's metric over the rounds, with one line per depth that some device trains.

    What central test data say is drawn as a line, what devices measured on their held-out samples as dashes, with the
    spread over the devices around them.
    """
    from matplotlib import colormaps  # noqa: PLC0415

    figure, (axes,) = new_figure(size=(8, 4.6))
    metric, factor = summary.metric, 100 if is_share(summary.metric) else 1
    central, on_devices = _central(summary), _on_devices(summary)
    trained = trained_exits(summary)
    measured = sorted({depth for values in (central, on_devices) for depth in values})
    depths = [depth for depth in measured if depth in trained]
    places = [0.15 + 0.75 * place / (len(depths) - 1) for place in range(len(depths))] if len(depths) > 1 else [0.6]
    shades = colormaps["viridis"].reversed()(places[: len(depths)])
    for depth, colour in zip(depths, shades, strict=True):
        name = f"depth {depth}" + (" (full)" if depth == max(measured) else "")
        for points, style, where in ((central, "-", ""), (on_devices, "--", " on devices")):
            if of_exit := points.get(depth):
                label = f"{name}{where}: {format_metric(metric, of_exit[-1][1])}"
                scaled = [(round, factor * value, factor * spread) for round, value, spread in of_exit]
                _draw_points(axes, scaled, colour, style, label)
    mean = summary.rounds[-1].answer == "mean"
    if metric == "accuracy" and central:
        _draw_other_answer(axes, summary.rounds, max(depths if mean and depths else measured))
    axes.set_ylabel(f"{metric_label(metric)} on held-out data" + (" (%)" if factor == 100 else ""))
    if factor == 100:
        axes.set_ylim(0, 101)
    if depths:
        axes.legend(frameon=False, loc="lower right" if factor == 100 else "upper right", labelcolor=TEXT)
    of = " of the mean of the exits" if mean else ""
    set_title(axes, f"{summary.model}: {metric_label(metric)}{of} by depth")
    _round_axis(axes, [entry.round for entry in summary.rounds])
    return figure


def _draw_points(axes: Axes, points: _Points, colour: object, style: str, label: str) -> None:
    """Draws the values of one depth as a line, with the spread around it."""
    rounds, values = [point[0] for point in points], [point[1] for point in points]
    axes.plot(rounds, values, color=colour, linewidth=2, linestyle=style, marker="o", markersize=4, label=label)
    if any(spread for _, _, spread in points):
        low, high = [value - spread for _, value, spread in points], [value + spread for _, value, spread in points]
        axes.fill_between(rounds, low, high, color=colour, alpha=0.12, linewidth=0)


def _draw_other_answer(axes: Axes, rounds: Sequence[RoundSummary], depth: int) -> None:
    """Draws the accuracy of the answer that the run is not judged by, at one depth: an exit alone, or all together."""
    mean = rounds[-1].answer == "mean"
    judged = [entry for entry in rounds if entry.accuracy]
    of_other = [entry.exits if mean else entry.ensemble for entry in judged]
    if any(of_other):
        other = [100 * values.get(depth, float("nan")) for values in of_other]
        label = f"{f'exit {depth} alone' if mean else 'all exits together'}: {other[-1]:.1f} %"
        axes.plot([e.round for e in judged], other, color=TEXT, linewidth=1.5, linestyle="--", label=label)


_Points = list[tuple[int, float, float]]
"""Round, value and spread."""


def _central(summary: Summary) -> dict[int, _Points]:
    """The run's metric on central test data, by depth."""
    points: dict[int, _Points] = {}
    for entry in summary.rounds:
        for depth, value in values_of(summary.metric, entry.metrics, entry.accuracy).items():
            points.setdefault(depth, []).append((entry.round, value, 0.0))
    return points


def _on_devices(summary: Summary) -> dict[int, _Points]:
    """The run's metric on devices, by depth; in a round they judge the model that the round before made."""
    points: dict[int, _Points] = {}
    judged = [(entry.round - 1, entry.on_devices) for entry in summary.rounds if entry.round > 1]
    if summary.final is not None:
        judged = [entry for entry in judged if entry[0] != summary.final.round or not summary.final.on_devices]
        judged.append((summary.final.round, summary.final.on_devices))
    for round, by_depth in sorted(judged, key=lambda entry: entry[0]):
        for depth, scores in by_depth.items():
            if summary.metric in scores.mean:
                spread = scores.spread.get(summary.metric, 0.0)
                points.setdefault(depth, []).append((round, scores.mean[summary.metric], spread))
    return points


def confusion_figure(model: str, answers: AnswerCounts) -> Figure:
    """Makes the figure of a confusion matrix, coloured by the share of the samples of the true class."""
    classes = len(answers.confusion)
    side = min(14.0, 3.2 + 0.42 * max(classes, 4))
    figure, (axes,) = new_figure(size=(side + 0.8, side))
    shares = [[count / max(1, sum(row)) for count in row] for row in answers.confusion]
    axes.grid(visible=False)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    if classes <= MAX_NUMBERED_CLASSES:
        for true, row in enumerate(answers.confusion):
            for predicted, count in enumerate(row):
                if count:
                    colour = "white" if shares[true][predicted] > 0.5 else TEXT
                    axes.text(predicted, true, str(count), ha="center", va="center", color=colour, fontsize=8)
    if classes <= MAX_NAMED_CLASSES:
        names = [_short(name) for name in answers.names]
        axes.set_xticks(range(classes), names, rotation=90 if classes > 4 else 0, fontsize=8)
        axes.set_yticks(range(classes), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    set_title(axes, f"{model}, depth {answers.depth}: {counted(answers.samples, 'sample')} {_origin(answers)}")
    return figure


def values_figure(model: str, answers: AnswerCounts) -> Figure:
    """Makes the figure of predicted against true values, one panel per target, coloured by the number of samples."""
    from matplotlib.colors import LogNorm  # noqa: PLC0415

    columns = len(answers.values)
    figure, panels = new_figure(columns=columns, size=(1.2 + 4.2 * columns, 4.8))
    for axes, target in zip(panels, answers.values, strict=True):
        low, high = _drawn_range(target)
        largest = max(max(row) for row in target.counts)
        shown = [[count or math.nan for count in column] for column in zip(*target.counts, strict=True)]
        edges = (target.low, target.high, target.low, target.high)
        image = axes.imshow(shown, origin="lower", extent=edges, cmap="viridis_r", norm=LogNorm(1, max(2, largest)))
        axes.plot((low, high), (low, high), color=TEXT, linewidth=1, linestyle="--")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        unit = f" ({target.unit})" if target.unit else ""
        axes.grid(visible=False)
        axes.set_xlabel(f"true {'value' if columns == 1 and target.name == '0' else _short(target.name)}{unit}")
        axes.set_ylabel(f"predicted{unit}")
        figure.colorbar(image, ax=axes, shrink=0.7, label="samples")
    set_title(panels[0], f"{model}, depth {answers.depth}: {counted(answers.samples, 'sample')} {_origin(answers)}")
    return figure


def _drawn_range(target: ValueCounts) -> tuple[float, float]:
    """The edges around all bins that hold a sample, with one bin more on either side."""
    bins = len(target.counts)
    held = [
        place
        for true, row in enumerate(target.counts)
        for hit, count in enumerate(row)
        if count
        for place in (true, hit)
    ]
    first, last = max(0, min(held, default=0) - 1), min(bins, max(held, default=bins - 1) + 2)
    width = (target.high - target.low) / bins
    return target.low + first * width, target.low + last * width


def _origin(answers: AnswerCounts) -> str:
    return "of the test data" if answers.source == "central" else "that devices hold out"


def _short(name: str, most: int = 18) -> str:
    """A name that fits beside an axis; a dollar sign would begin a formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


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
