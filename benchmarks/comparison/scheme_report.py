"""Tables and pictures of the comparison: every scheme at the same bytes, the same computation and the same memory."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.comparison.scheme_cells import (
    BUDGETS,
    CONDITIONS,
    DYNAMIC,
    DYNAMIC_LARGE,
    EQUALITIES,
    MIXES,
    NOT_IN_MEMORY,
    OURS,
    REFERENCE,
    RIVALS,
    SCHEMES,
    UNREACHABLE,
    WITH_FEDDYN,
    WITH_TRICKS,
    Cell,
    Condition,
    Equality,
    Place,
    chosen_settings,
    experiment,
    parse_cell,
    settings_of,
    value_of,
)
from benchmarks.comparison.scheme_memory import largest_that_fits, peaks_of, tier_memory
from benchmarks.comparison.studies import SKEWED, Study
from benchmarks.results.cells import Result
from benchmarks.results.pages import markdown_table
from benchmarks.results.paired_differences import PairedDifference
from fedlp_edge.reporting.plot_style import BLUE, DPI, ORANGE, TEXT, new_figure, set_title

Tuned = Literal["tuned", "tuned+int8"]

TUNED: Mapping[Condition, Tuned] = {"tricks": "tuned", "tricks+int8": "tuned+int8"}
"""Columns with every trick and the setting that was best in the scheme's trials on validation samples."""

Column = Condition | Tuned

COLUMN_TITLES: Mapping[Column, str] = {
    "plain": "as published",
    "adjusted": "+ logit adjustment",
    "tricks": "+ every trick",
    "tuned": "+ best of 4 settings",
    "tricks+int8": "+ `int8` broadcast",
    "tuned+int8": "+ best of 4 settings, `int8`",
}
EQUALITY_TITLES: Mapping[Equality, str] = {
    "bytes": "equal bytes",
    "macs": "equal computation",
    "memory": "equal memory and tasks",
}
PARTITION_TITLES = {"iid": "iid", SKEWED: "mixed .95", "group": "a person a device"}
TITLES = {
    UNREACHABLE: "FedAvg, everybody †",
    "fedavg-full": "FedAvg, full-depth devices",
    "heterofl": "HeteroFL",
    "heterofl-wide": "HeteroFL, wide levels",
    "fedrolex": "FedRolex, wide levels",
    "fiarse": "FIARSE",
    "depthfl": "DepthFL",
    DYNAMIC: "DepthFL with FedDyn",
    "depthfl-large": "DepthFL, large heads",
    DYNAMIC_LARGE: "DepthFL with FedDyn, large heads",
    "scalefl": "ScaleFL",
    "reefl": "ReeFL",
    "fedlp-exits": "**FedLP with exits**",
    "fedlp-hetero": "**FedLP-Hetero**",
}
RECIPE_TITLES = {"fedlp-exits": "`fedlp-exits`", "fedlp-hetero": "`fedlp-plus`"}
COLOURS = {
    "fedavg-full": "#222222",
    "heterofl": "#58a55c",
    "heterofl-wide": "#a8d5aa",
    "fedrolex": "#1f7a3a",
    "fiarse": "#8a8a8a",
    "depthfl": BLUE,
    DYNAMIC: "#6fa8dc",
    "depthfl-large": "#1d4e9e",
    DYNAMIC_LARGE: "#4b79b8",
    "scalefl": "#7b4fa3",
    "reefl": "#b07aa1",
    "fedlp-exits": "#b3392f",
    "fedlp-hetero": ORANGE,
}
UNITS: Mapping[Equality, tuple[str, str]] = {
    "bytes": ("megabytes", "megabytes, down and up"),
    "macs": ("gigamacs", "billions of multiply-accumulates"),
}
MISSING = "…"
"""Where a cell is not computed yet."""

Group = tuple[Column, str, str, str, Equality]


@dataclass(frozen=True)
class Figures:
    """One place of a table.

    Attributes:
        values: accuracy from 0 to 1 by seed, each the mean of that seed's last rounds.
        rounds: mean number of rounds that were paid for.
    """

    values: Mapping[int, float]
    rounds: float

    def shown(self) -> str:
        """Mean and standard deviation over the seeds, and how many there are."""
        values = list(self.values.values())
        mean, count = 100 * statistics.fmean(values), len(values)
        return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f} ({count})" if count > 1 else f"{mean:.1f} (1)"


class Report:
    """What a set of finished cells says.

    Args:
        done: finished cells by name; those with settings that were not the best of their scheme are left out.
        study: that they are of.
        chosen: numbers of the best settings, where another study's trials said so; None for those of these cells.
    """

    def __init__(self, done: Mapping[str, Result], study: Study, chosen: Mapping[Place, int] | None = None) -> None:
        self._study = study
        self._skewed = study.partitions[0]
        self.chosen = chosen_settings(done) if chosen is None else chosen
        self._results: dict[Group, dict[int, Result]] = {}
        for name, found in sorted(done.items()):
            cell = parse_cell(name)
            for equality in cell.equalities:
                for column in self._columns_of(cell, equality):
                    group = (column, cell.scheme, cell.mix, cell.partition, equality)
                    self._results.setdefault(group, {})[cell.seed] = found
        self.groups = {group: _figures(results, group[-1]) for group, results in self._results.items()}
        computed = {group[0] for group in self.groups}
        self._columns = [c for c in COLUMN_TITLES if c in CONDITIONS[:3] or c in computed]

    def _columns_of(self, cell: Cell, equality: Equality) -> list[Column]:
        """Where a cell stands in the tables."""
        if cell.validation:
            return []
        best = self.chosen.get((cell.scheme, cell.mix, equality)) if cell.partition == self._skewed else None
        tuned = TUNED.get(cell.condition) if best is not None else None
        if tuned and cell.condition == "tricks+int8":  # of which the best settings alone are compared
            return [tuned] if cell.setting == best else []
        columns: list[Column] = [] if cell.setting else [cell.condition]
        return [*columns, tuned] if tuned and cell.setting == best else columns

    def text(self) -> str:
        """The section of the page."""
        study = self._study
        parts = [
            f"{study.devices} devices, {study.cohort} of them a round unless a scheme says otherwise; the budget is "
            f"what FedLP-Hetero as published costs in {study.rounds} rounds. Accuracy of the global model on the "
            f"whole test split in per cent. A seed counts with the mean of its last {study.reported} rounds; shown "
            "are mean ± standard deviation over the seeds, and in brackets how many there are. With every trick, "
            "FedLP-Hetero is `fedlp-plus`; the recipe `fedlp-exits` is FedLP with exits that also broadcasts as `int8` "
            "and draws devices evenly. † What unequal devices cannot do: everybody trains the whole model. "
            f"{MISSING} stands where no cell is computed yet; a scheme without a cell in a table has no row there.",
            self.tables(),
            "### Who is ahead" + study.of,
            self.differences(),
        ]
        if study.equal_memory:
            parts += ["### Settings", self.settings(), "### Memory", self.memory()]
        pictures = [f"![Accuracy at {EQUALITY_TITLES[e]}](images/{self._picture(e)})" for e in self._drawn()]
        return "\n\n".join(
            [*parts, "### Depths and tiers" + study.of, self.depths(), "### Pictures" + study.of, *pictures]
        )

    def tables(self) -> str:
        """One table a partition, mix and equality, with the schemes and conditions that have a cell there."""
        parts = []
        for partition, mix, equality in itertools.product(self._study.partitions, MIXES, EQUALITIES):
            place = (mix, partition, equality)
            computed = {(group[0], group[1]) for group in self.groups if group[2:] == place}
            columns = [c for c in self._columns if any(column == c for column, _ in computed)]
            rows = [self._row(s, *place, columns) for s in SCHEMES if any(scheme == s for _, scheme in computed)]
            if rows:
                title = f"### {PARTITION_TITLES[partition]}, depths {mix}, {EQUALITY_TITLES[equality]}"
                header = ["scheme", *(f"{COLUMN_TITLES[c]}{r}" for c in columns for r in (", rounds", ""))]
                parts += [title, markdown_table(header, rows)]
        return "\n\n".join(parts)

    def _row(self, scheme: str, mix: str, partition: str, equality: Equality, columns: Sequence[Column]) -> list[str]:
        row = [TITLES[scheme]]
        for column in columns:
            figures = self.groups.get((column, scheme, mix, partition, equality))
            row += ["", MISSING] if figures is None else [f"{figures.rounds:.0f}", figures.shown()]
        return row

    def differences(self) -> str:
        """Ours with every trick against every rival, seed by seed."""
        rows = []
        for partition in self._study.partitions:
            for mix in MIXES:
                for equality in EQUALITIES:
                    place = [f"{PARTITION_TITLES[partition]}, depths {mix}", EQUALITY_TITLES[equality]]
                    for scheme in OURS:
                        for rival in (*RIVALS, *OURS[OURS.index(scheme) + 1 :], UNREACHABLE):
                            if compared := self._compared(scheme, rival, mix, partition, equality):
                                rows.append([*place, RECIPE_TITLES[scheme], TITLES[rival], *compared])
        note = (
            "By how many points ours, with every trick, is ahead of a rival: mean of the differences seed by seed, and "
            "the 95 per cent interval of Student's t. Ahead or behind is who is so with the whole interval, against "
            "the rival with every trick; with one seed there is no interval."
        )
        if "tuned" in self._columns:
            note += (
                f" Under *{COLUMN_TITLES['tuned']}* both have the best of theirs, and that decides where it is there."
            )
        if "tricks+int8" in self._columns or "tuned+int8" in self._columns:
            note += " Where a rival broadcasts as `int8`, ours does, too."
        titles = [COLUMN_TITLES[column] for column in self._columns]
        return note + "\n\n" + markdown_table(["data", "at", "ours", "rival", *titles, "ours is"], rows, left=4)

    def _compared(self, scheme: str, rival: str, mix: str, partition: str, equality: Equality) -> list[str]:
        """Differences to a rival by column, and who is ahead; empty if there is nothing to compare."""
        shown = []
        verdict = MISSING
        for column in self._columns:
            ours_has: Column = column if column in (*TUNED.values(), *WITH_TRICKS) else "tricks"
            ours = self.groups.get((ours_has, scheme, mix, partition, equality))
            theirs = self.groups.get((column, rival, mix, partition, equality))
            difference = PairedDifference.of(ours.values, theirs.values) if ours and theirs else None
            shown.append(MISSING if difference is None else difference.shown())
            if column in ("tricks", "tuned") and difference is not None:
                verdict = difference.verdict()
        return [*shown, verdict] if set(shown) != {MISSING} else []

    def settings(self) -> str:
        """What was tried on validation samples, and what of it each scheme has."""
        tried = "; ".join(name for name, _ in settings_of(REFERENCE))
        note = (
            f"Settings tried for each scheme with every trick: {tried}; schemes that distil have no distillation in "
            "place of the last. "
        )
        if not self.chosen:
            return note + (
                "No scheme's trials on validation samples are finished, so every scheme has the first setting, which "
                "was found for `fedlp-plus` with an eye on its figures on the test split: it favours `fedlp-plus`."
            )
        rows = [
            [TITLES[scheme], mix, *(settings_of(scheme)[self.chosen[scheme, mix, budget]][0] for budget in BUDGETS)]
            for scheme, mix in itertools.product(SCHEMES, MIXES)
            if (scheme, mix, BUDGETS[0]) in self.chosen
        ]
        note += (
            "Best is what is so on the last 10,000 training samples, held out, with one seed on mixed .95; of schemes "
            "that are not named the trials are not computed."
        )
        titles = [f"best at {EQUALITY_TITLES[budget]}" for budget in BUDGETS]
        return note + "\n\n" + markdown_table(["scheme", "depths", *titles], rows, left=4)

    def memory(self) -> str:
        """What the planner foresees that training takes, by depth or level."""
        rows = []
        for scheme in self._study.compared(SCHEMES):
            if scheme in WITH_FEDDYN:  # the planner does not know of what it keeps besides
                continue
            wanted = experiment(Cell("tricks", scheme, "u", self._skewed, 1), self._study, 1)
            needed = peaks_of(wanted)
            if scheme in (UNREACHABLE, "fedavg-full"):
                needed = needed[-1:]
            if scheme in NOT_IN_MEMORY:
                levels = "–"
            elif scheme == "fedavg-full":
                levels = "the strongest tier alone"
            else:
                fitting = experiment(Cell("tricks", scheme, "u", self._skewed, 1, memory=True), self._study, 1)
                levels = " ".join(map(str, largest_that_fits(tier_memory(fitting), peaks_of(fitting))))
            rows.append([TITLES[scheme], " ".join(f"{peak / 1e6:.1f}" for peak in needed), levels])
        tiers = " ".join(f"{peak / 1e6:.1f}" for peak in tier_memory(wanted))
        note = (
            "Peak of training in megabytes on top of the idle worker, as the planner predicts it, by depth or level; "
            "the first is that of the weakest device at equal bytes and computation, where memory is *not* equal. At "
            f"equal memory the tiers have {tiers} MB, what DepthFL takes and a twentieth more, and train the depths or "
            "levels shown; FedLP-Hetero has pooled heads there, as its own take a weak device more than the whole "
            "model, and HeteroFL's wide levels are the widest that fit."
        )
        return note + "\n\n" + markdown_table(["scheme", "MB", "at equal memory"], rows, left=3)

    def depths(self) -> str:
        """Accuracy of the exits, and of the devices by what they can bear, at the end of each run."""
        rows = []
        for mix in MIXES:
            for scheme in (*RIVALS, *OURS):
                results = self._results.get(("tricks", scheme, mix, self._skewed, "macs"))
                if results:
                    shown = [_by_depth([result[key] for result in results.values()]) for key in ("exits", "tiers")]
                    rows.append([f"{TITLES[scheme]}, depths {mix}", *shown])
        note = (
            "With every trick. Global test set: exits (or widths) that can be judged, shallow to deep. Tiers: devices "
            "by the depth that they train, each with what a model of its depth answers on the test set weighted by its "
            "own classes: of FedLP with exits the mean of the exits up to it, of the others as they were computed the "
            f"exit or width of it. {PARTITION_TITLES[self._skewed].capitalize()}, last round of the longer run."
        )
        return note + "\n\n" + markdown_table(["scheme", "exits", "tiers"], rows, left=3)

    def _picture(self, equality: Equality) -> str:
        return f"{self._study.pictures}-{equality}.png"

    def _drawn(self) -> list[Equality]:
        """Equalities with a cell that a picture shows."""
        return [e for e in EQUALITIES if any(g[0] == "tricks" and g[3:] == (self._skewed, e) for g in self.groups)]

    def draw(self, directory: Path) -> None:
        """Writes the pictures."""
        from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415  # slow to import, and for this alone

        directory.mkdir(parents=True, exist_ok=True)
        for equality in self._drawn():
            mixes = [
                m for m in MIXES if any(g[0] == "tricks" and g[2:] == (m, self._skewed, equality) for g in self.groups)
            ]
            size = (5.5 * len(mixes), 4)
            figure, panels = new_figure(columns=len(mixes), size=size, share_y=equality != "memory")
            for axes, mix in zip(panels, mixes, strict=True):
                drawn = {
                    scheme: results
                    for scheme in COLOURS
                    if (results := self._results.get(("tricks", scheme, mix, self._skewed, equality)))
                }
                if equality == "memory":
                    for place, scheme in enumerate(drawn):
                        figures = self.groups["tricks", scheme, mix, self._skewed, equality]
                        values = [100 * value for value in figures.values.values()]
                        axes.plot(values, [place] * len(values), "o", color=COLOURS[scheme])
                    axes.set_yticks(range(len(drawn)), [TITLES[scheme].strip("*") for scheme in drawn])
                    axes.set_xlabel("accuracy (%), one dot a seed")
                else:
                    key, label = UNITS[equality]
                    for scheme, results in drawn.items():
                        if curve := _curve(list(results.values()), key):
                            x, y = zip(*curve, strict=True)
                            axes.plot(x, y, color=COLOURS[scheme], linewidth=2, label=TITLES[scheme].strip("*"))
                    axes.set_xscale("log")
                    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    axes.xaxis.set_major_formatter("{x:g}")
                    axes.xaxis.set_minor_formatter(NullFormatter())
                    axes.set_xlabel(label)
                set_title(axes, f"{PARTITION_TITLES[self._skewed]}, depths {mix}, every trick")
            if equality != "memory":
                panels[0].set_ylabel("accuracy (%)")
                if lines := panels[0].lines:  # below the panels, where a legend of a dozen schemes hides none of them
                    figure.legend(handles=lines, frameon=False, labelcolor=TEXT, loc="outside lower center", ncols=4)
            figure.savefig(directory / self._picture(equality), dpi=DPI)


def _figures(results: Mapping[int, Result], equality: Equality) -> Figures:
    return Figures(
        {seed: value_of(found, equality) for seed, found in results.items()},
        statistics.fmean(found["rounds"][equality] for found in results.values()),
    )


def _by_depth(results: list[Mapping[str, float]]) -> str:
    depths = sorted({depth for one in results for depth in one}, key=int)
    return " ".join(f"{100 * statistics.fmean(one[depth] for one in results if depth in one):.1f}" for depth in depths)


def _curve(results: list[Result], key: str) -> list[tuple[float, float]]:
    """What was spent and accuracy in per cent by round that all seeds evaluated, means over the seeds."""
    points: dict[int, list[tuple[float, float]]] = {}
    for one in results:
        for round, accuracy in one["accuracy"].items():
            points.setdefault(int(round), []).append((one.get(key, {}).get(round, math.nan), 100 * accuracy))
    complete = {round: pairs for round, pairs in points.items() if len(pairs) == len(results)}
    curve = [
        (statistics.fmean(x for x, _ in pairs), statistics.fmean(y for _, y in pairs))
        for _, pairs in sorted(complete.items())
    ]
    return [(x, y) for x, y in curve if not math.isnan(x)]
