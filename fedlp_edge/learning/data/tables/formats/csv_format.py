"""This module finds out how a CSV file is written: its encoding, delimiter, decimal sign and column names."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.field_values import (
    COMMA_NUMBER,
    GAPS,
    GROUPED_NUMBER,
    NO_NUMBERS,
    POINT_NUMBER,
    is_number,
    point_number,
)
from fedlp_edge.learning.data.tables.formats import arff_header
from fedlp_edge.learning.data.tables.formats.mended_lines import MendedLines

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_SAMPLE_BYTES = 1 << 18
_LINE_BYTES = 1 << 12
_MAX_HEADER_BYTES = 1 << 26
_SAMPLE_ROWS = 1000
_DELIMITERS = (";", "\t", ",", "|")
BLANKS = " "
"""Delimiter that stands for any number of blanks and tabs, as scientific programs write tables."""

_MAX_LINES_OF_UNITS = 2
_MIN_UNITS = 2
_MIN_ALIKE = 0.9  # share of the rows with as many fields as the first, where blanks may separate them
_MAX_FIELD = 1 << 20
_BUFFER_BYTES = 1 << 16
_WIDE = ("utf-16", "utf-32")
"""Encodings in which zero bytes are parts of characters."""

_OTHER_FILES = (
    (b"PK\x03\x04", "is an Excel workbook or another ZIP archive: save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook of the old kind: save the table as CSV"),
    (b"version https://git-lfs", "is a pointer of Git LFS: fetch the file with git lfs pull"),
    (b'{"', "is JSON: write json:FILE"),
    (b'[{"', "is JSON: write json:FILE"),
    (b"ARROW1", "is a Feather file: save the table as CSV or Parquet"),
    (b"PAR1", "is a Parquet file: write parquet:FILE"),
    (b"\x89HDF", "is an HDF5 file: save the table as CSV or Parquet"),
    (b"<", "is a web page or XML, no table: download the file itself"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: decompress it, or compress it by gzip"),
    (b"BZh", "is compressed by bzip2: decompress it, or compress it by gzip"),
    (b"\xfd7zXZ", "is compressed by xz: decompress it, or compress it by gzip"),
)


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Describes how a CSV file is written.

    Attributes:
        encoding: Encoding of the text.
        delimiter: Character between two fields.
        decimal: Decimal sign, a point or a comma.
        columns: Names of the columns; an empty name is a column that only a delimiter at the end of the lines makes.
        header_lines: Number of lines before the first row.
        rows: First rows, as text.
        units: Whether lines of units stand between the names and the first row.
        named: Whether the file names its columns; otherwise they are called by their numbers, from 1.
        quote: Sign around fields that hold a delimiter.
        line_end: Sign that ends each line and is no delimiter, such as a semicolon behind commas; empty for none.
    """

    encoding: str
    delimiter: str
    decimal: str
    columns: tuple[str, ...]
    header_lines: int
    rows: tuple[tuple[str, ...], ...]
    units: bool = False
    named: bool = True
    quote: str = '"'
    line_end: str = ""


def find_format(path: Path, encoding: str = "", *, named: bool = True) -> CsvFormat:
    """Finds out how a CSV file is written.

    Args:
        path: The file.
        encoding: Encoding of the text, where it is known.
        named: Whether the first line names the columns.

    Raises:
        DataError: The file cannot be read, is empty or no text, or its first line does not name the columns.
    """
    head, whole = _head(path)
    if not head.strip():
        raise DataError(f"{path} is empty")
    if not head.strip(b"\0"):
        raise DataError(f"{path} holds zero bytes and nothing else, as a power cut leaves files: remove it")
    for start, what in _OTHER_FILES:
        if head.lstrip()[:32].startswith(start):
            raise DataError(f"{path} {what}")
    encoding = encoding or _encoding(head)
    if b"\0" in head and not encoding.startswith(_WIDE):
        if b"\0" in head.lstrip().partition(b"\n")[0]:
            raise DataError(f"{path} is no text: save the table as CSV (for Parquet write parquet:FILE)")
        head = b"\n".join(b"" if b"\0" in line else line for line in head.split(b"\n"))
    text = _decoded(head, encoding)
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    if (arff := arff_header.arff_header(text, path)) is not None:
        rows, _ = _first_rows(arff.below, ",", arff_header.QUOTE, arff.lines, path)
        decimal = _decimal(rows, ",")
        return CsvFormat(encoding, ",", decimal, arff.columns, arff.lines, rows, quote=arff_header.QUOTE)
    announced = re.match(r'\s*"?sep=(.)"?\r?\n', text)
    before = 1 if announced else 0
    text = text[announced.end() :] if announced else text
    comments, text = _without_comments(text, named=named)
    before += comments
    delimiter = announced[1] if announced else _delimiter(text)
    line_end = "" if encoding.startswith(_WIDE) else _line_end(text, delimiter)
    if line_end:
        text = re.sub(rf"{line_end}[ \t]*(?=[\r\n]|\Z)", "", text)
    rows, ends = _first_rows(text, delimiter, '"', before, path)
    if not rows:
        raise DataError(f"{path} is empty")
    if not named:
        decimal = _decimal(rows, delimiter)
        return CsvFormat(encoding, delimiter, decimal, _numbered(rows), before, rows, named=False, line_end=line_end)
    columns = _names(rows, path, ends[0])
    units = _lines_of_units(rows)
    own = tuple(row for row in rows[1 + units :] if not is_header(row, columns))
    decimal = _decimal(own, delimiter)
    return CsvFormat(encoding, delimiter, decimal, columns, ends[units], own, units > 0, line_end=line_end)


def _first_rows(
    text: str, delimiter: str, quote: str, before: int, path: Path
) -> tuple[tuple[tuple[str, ...], ...], list[int]]:
    """Returns the first rows of a text that are not blank, and the number of the line on which each ends."""
    csv.field_size_limit(_MAX_FIELD)
    reader = _reader(io.StringIO(text, newline=""), delimiter, quote)
    rows: list[tuple[str, ...]] = []
    ends: list[int] = []
    try:
        for row in reader:
            if row and any(field.strip() for field in row):
                rows.append(tuple(field.strip() for field in row))
                ends.append(before + reader.line_num)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error as error:
        raise DataError(f"{path}:{before + reader.line_num}: {error}") from None
    return tuple(rows), ends


def _reader(lines: Iterable[str], delimiter: str, quote: str = '"') -> CsvReader:
    """Returns a reader of rows from ``csv``, for which any number of blanks becomes one."""
    if delimiter == BLANKS:
        lines = (" ".join(line.split()) for line in lines)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True)


def _numbered(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the numbers of columns as their names; a column that delimiters at the ends of lines make has none."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    filled = max((number for row in rows for number, field in enumerate(row[:width], 1) if field), default=0)
    return tuple(str(number) if number <= filled else "" for number in range(1, width + 1))


def is_header(row: Sequence[str], columns: Sequence[str]) -> bool:
    """Tells whether a row names the columns once more.

    Loggers write the names at every start, and files that were joined have them in the middle.
    """
    return (
        len(row) == len(columns)
        and unicodedata.normalize("NFC", row[0].strip().removeprefix("\ufeff")) == columns[0]
        and all(
            unicodedata.normalize("NFC", field.strip()) == name
            for field, name in zip(row[1:], columns[1:], strict=True)
        )
    )


def is_text(path: Path) -> bool:
    """Tells whether a file begins with lines of text, as CSV files do."""
    with path.open("rb") as file:
        head = file.read(_LINE_BYTES)
    return b"\n" in head and b"\0" not in head


class CsvRows(io.TextIOWrapper):
    """The text of a CSV file, compressed by gzip or not, after its header; a line with zero bytes is one of gaps.

    Args:
        path: Path of the file.
        form: How it is written.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, form: CsvFormat) -> None:
        opened = _opened(path)
        self._mended: MendedLines | None = None
        if not form.encoding.startswith(_WIDE):
            gap = "NaN" if form.delimiter == BLANKS else ""
            gaps = form.delimiter.join([gap] * len(form.columns))
            self._mended = MendedLines(opened, gaps.encode(), form.line_end.encode())
            opened = io.BufferedReader(self._mended, _BUFFER_BYTES)
        super().__init__(opened, encoding=form.encoding, errors="replace", newline="")
        for _ in itertools.islice(self, form.header_lines):
            pass

    @property
    def zeroed(self) -> int:
        """Number of lines with zero bytes, of those that were read so far."""
        return 0 if self._mended is None else self._mended.zeroed


def ends_within_a_line(path: Path, form: CsvFormat) -> bool:
    """Tells whether the last line of a CSV file has no end; False where it is compressed, or cannot be read.

    One whose end is zero bytes has lost that line.
    """
    if form.encoding.startswith(_WIDE):
        return False
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                return False
            file.seek(-1, io.SEEK_END)
            return file.read() not in (b"\n", b"\r", b"\0")
    except OSError:
        return False


def line_of(path: Path, form: CsvFormat, row: int) -> int:
    """Returns the number of the line, from 1, on which a row of a CSV file ends; blank lines are no rows."""
    for number, (line, _) in enumerate(rows_of(path, form)):
        if number == row:
            return line
    return 0


def rows_of(path: Path, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV file as text, each with the number of its line.

    Raises:
        DataError: The file cannot be read, or a row is malformed.
    """
    csv.field_size_limit(_MAX_FIELD)
    try:
        with CsvRows(path, form) as file:
            reader = _reader(file, form.delimiter, form.quote)
            try:
                for row in reader:
                    if row and not (form.named and is_header(row, form.columns)):
                        yield form.header_lines + reader.line_num, row
            except csv.Error as error:
                raise DataError(f"{path}:{form.header_lines + reader.line_num}: {error}") from None
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None


UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file, compressed by gzip or not, may raise."""


def unreadable(path: Path, error: OSError | EOFError | zlib.error) -> str:
    """Returns one line for a file that could not be read."""
    if isinstance(error, EOFError):
        return f"{path} is compressed by gzip and cut short: copy it again"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"{path} is compressed by gzip and damaged ({error}): copy it again"
    return f"cannot read {path}: {error.strerror or error}"


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def _head(path: Path) -> tuple[bytes, bool]:
    """Returns the beginning of a file, its first line at least, and whether that is all."""
    try:
        with _opened(path) as file:
            head = file.read(_SAMPLE_BYTES)
            while b"\n" not in head and b"\r" not in head and len(head) < _MAX_HEADER_BYTES:
                more = file.read(len(head))
                if not more:
                    return head, True
                head += more
            return head, not file.read(1)
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None


def _encoding(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):  # without a byte order mark
        half = head[first:1000:2]
        if half and half.count(0) > 0.9 * len(half) and not any(byte == 0 for byte in head[1 - first : 1000 : 2]):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"  # what Excel writes in western Europe
    return "utf-8"


def _decoded(head: bytes, encoding: str) -> str:
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    return text.removeprefix("\ufeff")


def _without_comments(text: str, *, named: bool) -> tuple[int, str]:
    """Returns the number of comments above the names of the columns, lines that begin with ``#``, and the text below.

    InfluxDB annotates its exports so, and loggers tell who they are. If rows follow the last such line at once, it
    names the columns itself, as NumPy and some loggers write them, and stays, unless the columns are to go by numbers.
    """
    lines = list(io.StringIO(text, newline=""))
    comments = list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines))
    written = [number for number, line in enumerate(comments) if line.strip()]
    below = lines[len(comments) :]
    if not written or not below:
        return 0, text
    delimiter = _delimiter("".join(below))
    last, first, second = (next(_reader([line], delimiter), []) for line in (comments[written[-1]], *(*below, "")[:2]))
    are_values = any(field[:1].isdigit() or is_number(field) for field in first if field)
    names_itself = len(last) == len(first) and (are_values or not any(is_number(field) for field in second if field))
    names_itself = names_itself and named
    count = written[-1] if names_itself else len(comments)
    return count, "".join(lines[count:])


def _lines_of_units(rows: Sequence[tuple[str, ...]]) -> int:
    """Returns the number of rows below the names that hold units or kinds of values, as data loggers write them.

    No column of numbers holds a number there, and two at least hold a word: a single one may be a mistake.
    """
    rest = rows[1 + _MAX_LINES_OF_UNITS :]
    gaps = frozenset((*GAPS, *NO_NUMBERS))
    numeric = []
    for column in range(len(rows[0])):
        fields = [row[column] for row in rest if column < len(row) and row[column] not in gaps]
        if fields and all(map(is_number, fields)):
            numeric.append(column)
    count = 0
    for row in rows[1 : 1 + _MAX_LINES_OF_UNITS]:
        fields = [row[column] for column in numeric if column < len(row) and row[column] not in gaps]
        if len(fields) < _MIN_UNITS or any(map(is_number, fields)):
            break
        count += 1
    return count


def _delimiter(text: str) -> str:
    """Returns the delimiter that cuts most rows into as many fields as the header has, and into most fields."""
    lines = list(itertools.islice((line for line in io.StringIO(text, newline="") if line.strip()), _SAMPLE_ROWS))
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = sum(len(row) == width for row in rows) / len(rows)
        if (score := (round(alike, 1), width)) > best_score:
            best, best_score = delimiter, score
    if best_score[1] and not _leaves_blanks_between_numbers(lines, best):
        return best
    return BLANKS if _are_separated_by_blanks(lines) else best


def _line_end(text: str, delimiter: str) -> str:
    """Returns a semicolon if most rows end with one and another sign separates their fields; empty otherwise."""
    lines = [line.rstrip() for line in itertools.islice(io.StringIO(text), _SAMPLE_ROWS) if line.strip()]
    rows = lines[1:] or lines  # names may stand without one
    return ";" if delimiter != ";" and sum(row.endswith(";") for row in rows) >= _MIN_ALIKE * len(rows) > 0 else ""


def _leaves_blanks_between_numbers(lines: Sequence[str], delimiter: str) -> bool:
    """Tells whether a delimiter leaves several numbers in one field of most lines, as a decimal comma or a tab does."""

    def holds_numbers(field: str) -> bool:
        parts = field.split()
        return len(parts) > 1 and all(map(is_number, parts)) and not GROUPED_NUMBER.fullmatch(field.strip())

    rows = list(csv.reader(lines, delimiter=delimiter))
    return sum(any(map(holds_numbers, row)) for row in rows) >= _MIN_ALIKE * len(rows) > 0


def _are_separated_by_blanks(lines: Sequence[str]) -> bool:
    """Tells whether blanks cut lines into equally many fields, of which some are numbers, and no words of a text."""
    rows = list(_reader(lines, BLANKS))
    width = len(rows[0]) if rows else 0
    alike = sum(len(row) == width for row in rows)
    numeric = sum(any(map(is_number, row)) for row in rows[1:])
    return width > 1 and alike >= _MIN_ALIKE * len(rows) and numeric >= _MIN_ALIKE * (len(rows) - 1)


def _names(rows: Sequence[tuple[str, ...]], path: Path, line: int) -> tuple[str, ...]:
    fields = tuple(unicodedata.normalize("NFC", field) for field in rows[0])  # sites compare names
    numbers = [field for field in fields if field and is_number(field)]
    if len(numbers) == sum(map(bool, fields)) or _are_values(numbers):
        raise DataError(
            f"{path}:{line}: the first line holds numbers, not the names of the columns: add a line of names, or "
            "#header=no to the data, which calls them 1, 2 and so on"
        )
    if numbers and (again := _field_of_a_row(rows)):
        raise DataError(
            f"{path}:{line}: the first line holds numbers and {again!r}, which stands below it again, not the names of "
            "the columns: add a line of names, or #header=no to the data, which calls them 1, 2 and so on"
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(fields, 1):
        if name and (first := seen.setdefault(name, number)) < number:
            raise DataError(f"{path}:{line}: columns {first} and {number} are both called {name!r}: rename one")
    return fields


def _field_of_a_row(rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a word of the first line that its column holds below as well, as names do not; empty if there is none."""
    first = rows[0]
    below = [row for row in rows[1:] if not is_header(row, first)]
    for number, field in enumerate(first):
        if field and not is_number(field) and any(number < len(row) and row[number] == field for row in below):
            return field
    return ""


def _are_values(fields: list[str]) -> bool:
    """Tells whether numbers in the first line are a row of values: fractions that neither rise nor fall throughout.

    Columns may be called by numbers, as of pixels, channels or wavelengths.
    """
    texts = [point_number(field, "." if "." in field else ",") for field in fields]
    if len(texts) < 2 or not any("." in text for text in texts):
        return False
    values = [1.0 if text.lower() == "true" else 0.0 if text.lower() == "false" else float(text) for text in texts]
    rising = [second > first for first, second in itertools.pairwise(values)]
    return not all(rising) and (any(rising) or len(rising) == 1)


def _decimal(rows: Sequence[tuple[str, ...]], delimiter: str) -> str:
    """Returns the decimal sign: what stands before other than three digits, or after groups of three, decides."""
    commas = False
    for field in itertools.chain.from_iterable(rows):
        grouped = GROUPED_NUMBER.fullmatch(field)
        if grouped is not None and grouped[4]:
            if grouped[4] == ".":
                return "."
            commas = True
        elif grouped is None and POINT_NUMBER.fullmatch(field):
            return "."
        elif COMMA_NUMBER.fullmatch(field) and (grouped is None or delimiter != ","):
            commas = True
    return "," if commas else "."
