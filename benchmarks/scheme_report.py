"""Tables and pictures of the comparison at equal cost: every scheme at the same bytes and at the same computation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cells import Result, Size, several
from benchmarks.pages import markdown_table
from benchmarks.scheme_cells import (
    BUDGETS,
    MIXES,
    OURS,
    PARTITIONS,
    RIVALS,
    SCHEMES,
    Budget,
    Condition,
    parse_cell,
)
from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title

CONDITIONS: tuple[Condition, ...] = ("plain", "adjusted", "tricks")
CONDITION_TITLES = {"plain": "as published", "adjusted": "+ logit adjustment", "tricks": "+ all our tricks"}
BUDGET_TITLES: Mapping[Budget, str] = {"bytes": "equal bytes", "macs": "equal computation"}
PARTITION_TITLES = {"iid": "iid", "mixed:0.95": "mixed .95"}
TITLES = {
    "fedavg": "FedAvg, everybody",
    "fedavg-full": "FedAvg, full-depth devices",
    "fedlp-hetero": "FedLP-Hetero",
    "heterofl": "HeteroFL",
    "heterofl-wide": "HeteroFL, wide levels",
    "depthfl": "DepthFL",
    "depthfl-large": "DepthFL, large heads",
    OURS: "**fedlp-plus**",
}
COLOURS = {
    "fedavg-full": "#222222",
    "fedlp-hetero": "#9cc3f5",
    "heterofl": "#58a55c",
    "heterofl-wide": "#a8d5aa",
    "depthfl": BLUE,
    "depthfl-large": "#1d4e9e",
    OURS: ORANGE,
}

GOALS: tuple[tuple[str, Budget, float], ...] = (
    ("mixed:0.95", "bytes", 3.0),
    ("mixed:0.95", "macs", 0.0),
    ("iid", "bytes", 0.0),
    ("iid", "macs", 0.0),
)
"""By how many points ours is to be above every rival as published."""

Group = tuple[str, str, str, str]


@dataclass(frozen=True)
class Figures:
    """One place of a table: all seeds together.

    Attributes:
        reported: accuracies from 0 to 1 of the rounds before each budget is used up.
        rounds: mean number of rounds that each budget pays for.
        seeds: how many there are.
    """

    reported: Mapping[Budget, tuple[float, ...]]
    rounds: Mapping[Budget, float]
    seeds: int

    def mean(self, budget: Budget) -> float:
        """Accuracy in per cent."""
        return 100 * statistics.fmean(self.reported[budget])

    def shown(self, budget: Budget) -> str:
        """Mean and standard deviation over rounds and seeds."""
        values = self.reported[budget]
        return f"{self.mean(budget):.1f} ± {100 * statistics.stdev(values) if len(values) > 1 else 0:.1f}"


class Report:
    """What a set of finished cells says.

    Args:
        done: finished cells by name.
        size: of the experiments.
    """

    def __init__(self, done: Mapping[str, Result], size: Size) -> None:
        self._size = size
        self._results: dict[Group, list[Result]] = {}
        for name, found in sorted(done.items()):
            cell = parse_cell(name)
            self._results.setdefault((cell.condition, cell.scheme, cell.mix, cell.partition), []).append(found)
        self.groups = {group: _together(results) for group, results in self._results.items()}

    def text(self) -> str:
        """The section of the page."""
        size = self._size
        seeds = max((figures.seeds for figures in self.groups.values()), default=0)
        return "\n\n".join(
            [
                f"{size.devices} devices, {size.cohort} of them a round unless a scheme says otherwise; the budget is "
                f"what FedLP-Hetero costs in {size.rounds} rounds. Accuracy of the global model on the whole test "
                f"split in per cent: mean ± standard deviation over the last {size.reported} rounds of "
                f"{several(seeds, 'seed')} together.",
                self.tables(),
                "### The goal",
                self.goals(),
                "### Depths and tiers",
                self.depths(),
                "### Pictures",
                "![Accuracy over megabytes, for two mixes of depths](images/schemes-bytes.png)",
            ]
        )

    def tables(self) -> str:
        """One table a partition, mix and budget."""
        parts = []
        for partition in PARTITIONS:
            for mix in MIXES:
                rows = [row for scheme in SCHEMES if (row := self._row(scheme, mix, partition))]
                if rows:
                    titles = [f"{CONDITION_TITLES[c]}" for c in CONDITIONS if c == "plain" or partition != "iid"]
                    header = ["scheme"]
                    for budget in BUDGETS:
                        header += ["rounds", *(f"{BUDGET_TITLES[budget]}: {title}" for title in titles)]
                    parts += [f"### {PARTITION_TITLES[partition]}, depths {mix}", markdown_table(header, rows)]
        return "\n\n".join(parts)

    def _row(self, scheme: str, mix: str, partition: str) -> list[str]:
        # Everybody trains the whole model, whatever the mix.
        mix = "u" if scheme == "fedavg" else mix
        conditions = [c for c in CONDITIONS if c == "plain" or partition != "iid"]
        by_condition = {c: self.groups.get((c, scheme, mix, partition)) for c in CONDITIONS}
        known = [figures for figures in by_condition.values() if figures]
        if not known:
            return []
        if scheme == OURS and partition == "iid":
            by_condition["plain"] = by_condition["tricks"]
        row = [TITLES[scheme]]
        for budget in BUDGETS:
            row.append(", ".join(dict.fromkeys(f"{figures.rounds[budget]:.0f}" for figures in known)))
            row += [figures.shown(budget) if (figures := by_condition[c]) else "" for c in conditions]
        return row

    def goals(self) -> str:
        """Ours against every rival, in points."""
        rows = []
        for partition, budget, wanted in GOALS:
            for mix in MIXES:
                ours = self.groups.get(("tricks", OURS, mix, partition))
                if ours is None:
                    continue
                for condition in CONDITIONS:
                    ahead = {
                        rival: ours.mean(budget) - figures.mean(budget)
                        for rival in RIVALS
                        if (figures := self.groups.get((condition, rival, mix, partition)))
                    }
                    if ahead:
                        least = min(ahead.values())
                        verdict = ("yes" if least >= wanted else "**no**") if condition == "plain" else ""
                        rows.append(
                            [
                                f"{PARTITION_TITLES[partition]}, depths {mix}",
                                BUDGET_TITLES[budget],
                                CONDITION_TITLES[condition],
                                ", ".join(f"{TITLES[rival]} {points:+.1f}" for rival, points in ahead.items()),
                                f"{wanted:+.0f}" if condition == "plain" else "",
                                verdict,
                            ]
                        )
        header = ["data", "at", "rivals", "fedlp-plus is ahead by, points", "goal", "reached"]
        return markdown_table(header, rows, left=4)

    def depths(self) -> str:
        """Accuracy of the exits, and of the devices by what they can bear, at the end of each run."""
        rows = []
        for mix in MIXES:
            for condition, scheme in [*(("plain", rival) for rival in RIVALS), ("tricks", OURS)]:
                results = self._results.get((condition, scheme, mix, "mixed:0.95"))
                if results:
                    shown = [_by_depth([result[key] for result in results]) for key in ("exits", "tiers")]
                    rows.append([f"{TITLES[scheme]}, depths {mix}", *shown])
        note = (
            "Global test set: exits (or widths) that can be judged, shallow to deep. Tiers: devices by the depth that "
            "they train, each with the exit of its depth on the test set weighted by its own classes. Mixed .95, last "
            "round."
        )
        return note + "\n\n" + markdown_table(["scheme", "exits", "tiers"], rows, left=3)

    def draw(self, directory: Path) -> None:
        """Writes the picture."""
        directory.mkdir(parents=True, exist_ok=True)
        figure, panels = new_figure(columns=len(MIXES), size=(11, 4), share_y=True)
        for axes, mix in zip(panels, MIXES, strict=True):
            for scheme, colour in COLOURS.items():
                condition = "tricks" if scheme == OURS else "plain"
                curve = _curve(self._results.get((condition, scheme, mix, "mixed:0.95"), []))
                if curve:
                    x, y = zip(*curve, strict=True)
                    axes.plot(x, y, color=colour, linewidth=2, label=TITLES[scheme].strip("*"))
            # Large heads cost ten times what the others do, who would be squeezed into a corner.
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("megabytes, down and up")
            set_title(axes, f"mixed .95, depths {mix}, as published")
        panels[0].set_ylabel("accuracy (%)")
        panels[0].legend(frameon=False, labelcolor=TEXT, loc="lower right")
        figure.savefig(directory / "schemes-bytes.png", dpi=DPI)


def _together(results: list[Result]) -> Figures:
    return Figures(
        reported={kind: tuple(a for one in results for a in one["reported"][kind]) for kind in BUDGETS},
        rounds={kind: statistics.fmean(one["rounds"][kind] for one in results) for kind in BUDGETS},
        seeds=len(results),
    )


def _by_depth(results: list[Mapping[str, float]]) -> str:
    depths = sorted({depth for one in results for depth in one}, key=int)
    return " ".join(f"{100 * statistics.fmean(one[depth] for one in results if depth in one):.1f}" for depth in depths)


def _curve(results: list[Result]) -> list[tuple[float, float]]:
    """Megabytes and accuracy in per cent by evaluated round, means over the seeds that evaluated it."""
    points: dict[int, list[tuple[float, float]]] = {}
    for one in results:
        for round, accuracy in one["accuracy"].items():
            points.setdefault(int(round), []).append((one["megabytes"][round], 100 * accuracy))
    complete = {round: pairs for round, pairs in points.items() if len(pairs) == len(results)}
    return [
        (statistics.fmean(x for x, _ in pairs), statistics.fmean(y for _, y in pairs))
        for _, pairs in sorted(complete.items())
    ]
