"""This module says in one line what is left out of a table, and what in it looks like a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlp_edge.system.printable import counted

_NAMED = 3  # examples of each kind in the summary


@dataclass
class TableReport:
    """Counts what a table holds besides the rows that are used, and holds what is doubtful about these.

    Attributes:
        empty: Number of empty files in a directory.
        gaps: Number of rows in which a feature has no value.
        first_gap: Place and column of the first of them.
        untimed: Number of rows without a time.
        untargeted: Number of rows without a target.
        windows: Number of windows that touch such rows.
        short: Number of series with too few rows for a window.
        text: Names of the columns of text that are not used.
        times: Names of the columns of points in time or durations that are not used.
        units: A field of each of these columns that holds numbers with a unit, by column.
        unnamed: Numbers, from 1, of the columns without a name that hold values.
        ungrouped: Number of rows without a group.
        gap_words: Words that were taken for a missing class.
        guessed: Path of the first file whose encoding was guessed; empty if there is none.
        marks: Numbers that look like marks of gaps, and are used as they are, by column.
        repeated: Number of rows that have the time of another row of their series.
        nested: Names of the columns of lists or records that are not used.
        lists: Names of the columns of text or JSON with several numbers in a field, which are not used.
        rows: Number of rows of all files.
        sparse: Name of the feature that most often has no value, and how often.
        far: Numbers that are far from all others, and are used as they are, by column.
        counters: Names of features that number the rows.
        alike: Classes whose names differ in capitals alone.
        pauses: Number of samples that reach across a pause, and how many usual steps of time the longest pause is.
        headers: Number of lines that name the columns once more.
        line_of_units: Whether a file has lines of units below the names of its columns.
        zeroed: Number of lines with zero bytes, which count among the rows with gaps.
        copies: Names of the files of a directory whose bytes are those of an earlier one.
        unfinished: Names of the files of a directory that have no end, and are not used.
    """

    empty: int = 0
    gaps: int = 0
    first_gap: str = ""
    untimed: int = 0
    untargeted: int = 0
    windows: int = 0
    short: int = 0
    text: tuple[str, ...] = ()
    ungrouped: int = 0
    gap_words: tuple[str, ...] = ()
    guessed: str = ""
    marks: dict[str, float] = field(default_factory=dict)
    repeated: int = 0
    nested: tuple[str, ...] = ()
    rows: int = 0
    sparse: tuple[str, int] = ("", 0)
    far: dict[str, float] = field(default_factory=dict)
    counters: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    unnamed: tuple[int, ...] = ()
    pauses: tuple[int, float] = (0, 0.0)
    headers: int = 0
    line_of_units: bool = False
    zeroed: int = 0
    copies: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns the report in one line; empty if everything is used and nothing is doubtful."""
        left_out = self._left_out()
        said = [f"left out: {', '.join(left_out)}"] if left_out else []
        return "; ".join([*said, *self._doubts()])

    def _left_out(self) -> list[str]:
        parts = []
        if self.empty:
            parts.append(f"{counted(self.empty, 'empty file')}")
        if self.unfinished:
            many = counted(len(self.unfinished), "file")
            parts.append(f"{many} without an end ({_some(self.unfinished)}), as of one that is being written")
        if self.headers:
            parts.append(f"{counted(self.headers, 'line')} with the names of the columns once more")
        if self.line_of_units:
            parts.append("the units below the names of the columns")
        if self.gaps:
            parts.append(f"{counted(self.gaps, 'row')} with gaps (the first is {self.first_gap})")
        if self.untimed:
            parts.append(f"{counted(self.untimed, 'row')} without a time")
        if self.untargeted:
            words = f" ({', '.join(self.gap_words)}: a class must be called otherwise)" if self.gap_words else ""
            parts.append(f"{counted(self.untargeted, 'row')} without a target{words}")
        if self.ungrouped:
            parts.append(f"{counted(self.ungrouped, 'row')} without a group")
        if self.windows:
            parts.append(f"{counted(self.windows, 'window')} that touch them")
        if self.short:
            parts.append(f"{self.short:,} series with fewer rows than a sample needs")
        return parts + self._columns()

    def _columns(self) -> list[str]:
        """Returns which columns are left out."""
        parts = []
        if text := tuple(name for name in self.text if name not in self.lists):
            more = f"; {len(text) - _NAMED} more" if len(text) > _NAMED else ""
            parts.append(f"{counted(len(text), 'column')} of text ({'; '.join(text[:_NAMED])}{more})")
        if self.times:
            parts.append(
                f"{counted(len(self.times), 'column')} of times ({'; '.join(self.times[:_NAMED])}), which order rows "
                "as time= and are seconds as features="
            )
        if self.unnamed:
            parts.append(
                f"{counted(len(self.unnamed), 'column')} without a name "
                f"(number {', '.join(map(str, self.unnamed[:_NAMED]))})"
            )
        if self.lists:
            parts.append(
                f"{counted(len(self.lists), 'column')} of several numbers a field ({'; '.join(self.lists[:_NAMED])}), "
                "which a function of yours can take apart"
            )
        if self.nested:
            parts.append(
                f"{counted(len(self.nested), 'column')} of lists or records ({'; '.join(self.nested[:_NAMED])}), "
                "which huggingface:FILE reads as samples"
            )
        return parts

    def _doubts(self) -> list[str]:
        said = []
        column, without = self.sparse
        if self.gaps and 2 * without > self.rows:
            said.append(
                f"column {column!r} has no value in {without:,} of {self.rows:,} rows: name the features without it "
                "with features= if it is to cost no rows"
            )
        if self.zeroed:
            said.append(
                f"{counted(self.zeroed, 'line')} with zero bytes, as a power cut leaves them in a file that is being "
                "written"
            )
        if self.copies:
            said.append(
                f"the rows of {_some(self.copies)} are byte for byte those of another file, and "
                "count again: remove copies that are not meant"
            )
        if self.guessed:
            said.append(f"{self.guessed} is no UTF-8 and was read as Windows-1252 (encoding= names another one)")
        for column, mark in itertools.islice(self.marks.items(), _NAMED):
            said.append(f"{mark:g} in column {column!r} is used as a number: for a gap, add missing={mark:g}")
        for column, value in itertools.islice(self.far.items(), _NAMED):
            said.append(
                f"{value:g} in column {column!r} is far from all other values, and scaling goes by it: if a sensor "
                f"failed, add missing={repr(value).removesuffix('.0')}"
            )
        if self.counters:
            said.append(
                f"column {self.counters[0]!r} numbers the rows and is used as a feature: name the features without it "
                "with features= if that is not meant"
            )
        for column, text in itertools.islice(self.units.items(), _NAMED):
            said.append(
                f"column {column!r} holds numbers with a unit ({text!r}), which count as text: write the numbers alone "
                "to have them used, in one unit on all devices"
            )
        if self.alike:
            said.append(f"classes that differ in capitals alone count as different: {', '.join(self.alike)}")
        reaching, longest = self.pauses
        if reaching:
            said.append(
                f"{counted(reaching, 'sample')} with a pause inside (the longest is {longest:,.0f} times the usual "
                "step of time): to have none, write what lies before and after a pause into files of their own, or "
                "name it in a column for group="
            )
        if self.repeated:
            why = "local times do so when the clock is set back, UTC never does"
            if 2 * self.repeated > self.rows:
                why = "the times may be rounded, as spreadsheets save 1.7041E+12, or be dates alone"
            said.append(
                f"{counted(self.repeated, 'row')} with the time of another row of their series, in the order of the "
                f"file: {why}"
            )
        return said


def _some(names: Sequence[str]) -> str:
    """Lists the first of some files, and says how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
