"""Tables and pictures of the cells of the paper's table: mean and spread of the last rounds, beside what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparison.paper_cells import MODES, PARTITIONS, SCHEMES, Mode, parse_cell
from benchmarks.results.cells import Result, Size, several
from benchmarks.results.pages import markdown_table
from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title

MODE_TITLES: Mapping[Mode, str] = {"paper": "As the paper says", "authors": "As the authors' code does"}
MODE_COLOURS: Mapping[Mode, str] = {"paper": BLUE, "authors": ORANGE}
PARTITION_TITLES = {"iid": "iid", "dirichlet:1": "Dirichlet(1)", "mixed:0.95": "mixed .95"}
CURVES = ("fedavg", "homo-0.5", "homo-0.1", "hetero-1")
CURVE_COLOURS = ("#222222", "#3b7ddd", "#9cc3f5", "#e08a2e")

Group = tuple[Mode, str, str]


@dataclass(frozen=True)
class Figures:
    """One place of a table: all seeds together.

    Attributes:
        accuracy: of every reported round of every seed, from 0 to 1.
        expected_kparams: communication of a client and round, thousands of parameters.
        realised_kparams: likewise, counted.
        expected_mmacs: millions of multiply-accumulates of a sample's forward pass.
        realised_mmacs: likewise, counted.
        silent: share of a round's units that nobody sent.
        seeds: how many there are.
    """

    accuracy: tuple[float, ...]
    expected_kparams: float
    realised_kparams: float
    expected_mmacs: float
    realised_mmacs: float
    silent: float
    seeds: int

    @property
    def mean(self) -> float:
        """Accuracy in per cent."""
        return 100 * statistics.fmean(self.accuracy)

    @property
    def deviation(self) -> float:
        """Standard deviation over rounds and seeds, in points."""
        return 100 * statistics.stdev(self.accuracy) if len(self.accuracy) > 1 else 0.0


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper about two schemes.

    Attributes:
        text: the claim.
        partition: where it is made.
        upper: scheme that is said to be better, or equal.
        lower: the other one.
        holds: of the difference of the means, in points.
    """

    text: str
    partition: str
    upper: str
    lower: str
    holds: Callable[[float], bool]


ORDERINGS = (
    Ordering("FedAvg is about Homo(.5): within 3 points", "mixed:0.95", "fedavg", "homo-0.5", lambda d: abs(d) <= 3),
    Ordering(
        "Homo(.5) is far above Homo(.1): 5 points or more", "mixed:0.95", "homo-0.5", "homo-0.1", lambda d: d >= 5
    ),
    Ordering("Homo(.5) is about FedAvg: within 2 points", "iid", "fedavg", "homo-0.5", lambda d: abs(d) <= 2),
    Ordering("FedAvg is above Homo(.1)", "iid", "fedavg", "homo-0.1", lambda d: d > 0),
    Ordering("Homo(.5) is above Homo(.1)", "iid", "homo-0.5", "homo-0.1", lambda d: d > 0),
    Ordering("Homo(.1) is above Hetero(1)", "iid", "homo-0.1", "hetero-1", lambda d: d > 0),
)


class Report:
    """What a set of finished cells says.

    Args:
        done: finished cells by name.
        size: of the experiments.
    """

    def __init__(self, done: Mapping[str, Result], size: Size) -> None:
        self._done = done
        self._size = size
        groups: dict[Group, list[Result]] = {}
        for name, cell_result in sorted(done.items()):
            cell = parse_cell(name)
            groups.setdefault((cell.mode, cell.scheme, cell.partition), []).append(cell_result)
        self.groups: dict[Group, Figures] = {group: _together(results, size) for group, results in groups.items()}

    def text(self) -> str:
        """The section of the page."""
        size = self._size
        seeds = max((figures.seeds for figures in self.groups.values()), default=0)
        return "\n\n".join(
            [
                f"{size.devices} devices, {size.cohort} of them a round, {size.rounds} rounds. Accuracy of the global "
                f"model on the whole test split in per cent: mean ± standard deviation over the last {size.reported} "
                f"rounds of {several(seeds, 'seed')} together. Costs are per client and round.",
                self.tables(),
                "### The paper's orderings",
                self.orderings(),
                "### Pictures",
                "![Accuracy by scheme, for three partitions and two modes](images/paper-accuracy.png)",
                "![Accuracy over rounds for four schemes](images/paper-curves.png)",
                "![Accuracy over communication](images/paper-communication.png)",
            ]
        )

    def tables(self) -> str:
        """One table a mode."""
        header = ["scheme", *PARTITION_TITLES.values(), "k parameters", "counted", "MMACs", "counted", "silent"]
        parts = []
        for mode in MODES:
            rows = []
            for scheme in SCHEMES:
                row = [self.groups.get((mode, scheme, partition)) for partition in PARTITIONS]
                known = [figures for figures in row if figures is not None]
                if known:
                    accuracy = [f"{one.mean:.1f} ± {one.deviation:.1f}" if one else "" for one in row]
                    rows.append([scheme_title(scheme), *accuracy, *_costs(known)])
            if rows:
                parts += [f"### {MODE_TITLES[mode]}", markdown_table(header, rows)]
        return "\n\n".join(parts)

    def orderings(self) -> str:
        """Which of the paper's claims hold here, with the difference in points."""
        rows = []
        for mode in MODES:
            for claim in ORDERINGS:
                upper = self.groups.get((mode, claim.upper, claim.partition))
                lower = self.groups.get((mode, claim.lower, claim.partition))
                if upper and lower:
                    difference = upper.mean - lower.mean
                    verdict = "yes" if claim.holds(difference) else "**no**"
                    rows.append([mode, PARTITION_TITLES[claim.partition], claim.text, verdict, f"{difference:+.1f}"])
        return markdown_table(["mode", "partition", "claim", "holds", "points"], rows, left=4)

    def draw(self, directory: Path) -> None:
        """Writes the pictures."""
        directory.mkdir(parents=True, exist_ok=True)
        self._draw_accuracy(directory / "paper-accuracy.png")
        self._draw_curves(directory / "paper-curves.png")
        self._draw_communication(directory / "paper-communication.png")

    def _draw_accuracy(self, path: Path) -> None:
        figure, panels = new_figure(columns=len(PARTITIONS), size=(11, 4), share_y=True)
        for axes, partition in zip(panels, PARTITIONS, strict=True):
            for mode, shift in zip(MODES, (-0.13, 0.13), strict=True):
                places = [(i, self.groups.get((mode, scheme, partition))) for i, scheme in enumerate(SCHEMES)]
                known = [(i + shift, figures.mean, figures.deviation) for i, figures in places if figures]
                if known:
                    x, mean, deviation = zip(*known, strict=True)
                    colour = MODE_COLOURS[mode]
                    axes.errorbar(x, mean, deviation, fmt="o", color=colour, markersize=5, capsize=3, label=mode)
            axes.set_xticks(range(len(SCHEMES)), [scheme_title(scheme) for scheme in SCHEMES], rotation=60, ha="right")
            set_title(axes, PARTITION_TITLES[partition])
        panels[0].set_ylabel("accuracy (%)")
        panels[0].legend(frameon=False, labelcolor=TEXT, loc="lower left")
        figure.savefig(path, dpi=DPI)

    def _draw_curves(self, path: Path) -> None:
        figure, panels = new_figure(columns=len(PARTITIONS), size=(11, 4), share_y=True)
        for axes, partition in zip(panels, PARTITIONS, strict=True):
            for scheme, colour in zip(CURVES, CURVE_COLOURS, strict=True):
                curve = self._curve("paper", scheme, partition)
                axes.plot(list(curve), list(curve.values()), color=colour, linewidth=2, label=scheme_title(scheme))
            axes.set_xlabel("round")
            set_title(axes, PARTITION_TITLES[partition])
        panels[0].set_ylabel("accuracy (%), as the paper says")
        panels[0].legend(frameon=False, labelcolor=TEXT, loc="lower right")
        figure.savefig(path, dpi=DPI)

    def _curve(self, mode: Mode, scheme: str, partition: str) -> dict[int, float]:
        """Mean over the seeds by evaluated round, in per cent."""
        by_round: dict[int, list[float]] = {}
        for name, cell_result in self._done.items():
            cell = parse_cell(name)
            if (cell.mode, cell.scheme, cell.partition) == (mode, scheme, partition):
                for round, accuracy in cell_result["accuracy"].items():
                    by_round.setdefault(int(round), []).append(100 * accuracy)
        return {round: statistics.fmean(values) for round, values in sorted(by_round.items())}

    def _draw_communication(self, path: Path) -> None:
        figure, panels = new_figure(columns=len(PARTITIONS), size=(11, 4), share_y=True)
        for axes, partition in zip(panels, PARTITIONS, strict=True):
            for scheme in SCHEMES:
                figures = self.groups.get(("paper", scheme, partition))
                if figures:
                    hetero = scheme.startswith("hetero")
                    place = (figures.realised_kparams, figures.mean)
                    axes.plot(*place, "o", color=ORANGE if hetero else BLUE)
                    # Slanted and on either side, or names of schemes that cost about the same would cover each other.
                    axes.annotate(
                        scheme_title(scheme),
                        place,
                        xytext=(3, 5 if hetero else -5),
                        textcoords="offset points",
                        rotation=45 if hetero else -45,
                        rotation_mode="anchor",
                        va="center",
                        fontsize="small",
                        color=TEXT,
                    )
            axes.set_xlabel("k parameters a client and round")
            axes.margins(x=0.2, y=0.2)
            set_title(axes, PARTITION_TITLES[partition])
        panels[0].set_ylabel("accuracy (%), as the paper says")
        figure.savefig(path, dpi=DPI)


def scheme_title(scheme: str) -> str:
    """``homo-0.5`` as the paper writes it, ``Homo(.5)``."""
    kind, _, number = scheme.partition("-")
    return "FedAvg" if kind == "fedavg" else f"{kind.capitalize()}({number.removeprefix('0')})"


def _together(results: Iterable[Result], size: Size) -> Figures:
    results = list(results)

    def mean(key: str) -> float:
        return statistics.fmean(one[key] for one in results)

    silent = [sum(one["silent"].values()) / (one["units"] * size.rounds) for one in results]
    return Figures(
        accuracy=tuple(accuracy for one in results for accuracy in one["reported"]),
        expected_kparams=mean("expected_kparams"),
        realised_kparams=mean("realised_kparams"),
        expected_mmacs=mean("expected_mmacs"),
        realised_mmacs=mean("realised_mmacs"),
        silent=statistics.fmean(silent),
        seeds=len(results),
    )


def _costs(known: list[Figures]) -> list[str]:
    """Of all partitions together: what a scheme costs does not depend on who holds which samples."""
    expected, counted = known[0], [statistics.fmean(values) for values in zip(*map(_realised, known), strict=True)]
    return [
        f"{expected.expected_kparams:.2f}",
        f"{counted[0]:.2f}",
        f"{expected.expected_mmacs:.3f}",
        f"{counted[1]:.3f}",
        f"{counted[2]:.1%}",
    ]


def _realised(figures: Figures) -> tuple[float, float, float]:
    return figures.realised_kparams, figures.realised_mmacs, figures.silent
