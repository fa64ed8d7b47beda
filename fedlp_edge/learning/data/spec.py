"""This module parses data specifications, single lines of text that name samples.

An example is ``fashion-mnist#share=3/8&partition=dirichlet:0.5&seed=1&limit=1500``: short enough for a command line,
and complete, so that two processes with the specification get equal samples. Parsing needs neither data nor PyTorch,
so a command can refuse a wrong specification at once.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from fedlp_edge.errors import DataError, StorageError
from fedlp_edge.learning.data.foreign_kinds import foreign_kind
from fedlp_edge.learning.data.partitioners import Partitioner, parse_partitioner
from fedlp_edge.learning.foreign_code import misnamed
from fedlp_edge.system.directories import expand_user, is_there
from fedlp_edge.system.lifecycle import install_command
from fedlp_edge.system.path_hints import ARCHIVES, path_hint, shown_path

DATASET_NAMES = ("digits", "fashion-mnist", "mnist", "cifar10")
_OWN = (
    "imagefolder:DIR, audiofolder:DIR, csv:FILE, json:FILE, parquet:FILE, huggingface:DIR, npy:FILE, npz:FILE or "
    "module:callable"
)
FORMS = f"{', '.join(DATASET_NAMES)}, {_OWN}"
OPTIONS = ("share", "partition", "seed", "limit", "holdout")
"""Options of all sources."""

_COLUMNS = ("target", "features", "group", "only", "time", "window", "stride", "horizon", "missing", "shape")

OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "imagefolder": ("group", "only", "size", "channels", "cache"),
    "audiofolder": ("group", "only", "rate", "seconds", "mels", "cache"),
    "csv": (*_COLUMNS, "encoding", "header", "cache"),
    "json": (*_COLUMNS, "cache"),
    "parquet": (*_COLUMNS, "cache"),
    "huggingface": ("target", "features", "group", "only", "size", "channels", "rate", "seconds", "mels", "cache"),
    "npz": ("only",),
    "callable": ("only", "cache"),
}
"""Options that only some sources take, by the source."""

HOLDOUT = 0.2
"""Default share of samples that is held out if one source without a test split serves both devices and tests."""

SIZE, CHANNELS = (32, 32), 3
"""Height and width in pixels, and channels, of pictures if neither the specification nor a model sets them."""

MEGABYTE = 10**6

CACHE_BYTES = 256 * MEGABYTE
"""Most bytes that the samples of a source take in memory unless the specification sets ``cache``. Pictures and sounds
that take less are decoded at once; of others as many as fit are kept, and the rest is decoded when it is needed."""

_TIME_COLUMNS = 2
_OF_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+|[\w-]+")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MAX_SIZE = 4096

Source = Literal[
    "digits",
    "fashion-mnist",
    "mnist",
    "cifar10",
    "imagefolder",
    "audiofolder",
    "csv",
    "json",
    "parquet",
    "huggingface",
    "npy",
    "npz",
    "callable",
]
_ON_DISK: dict[str, Source] = {
    "imagefolder": "imagefolder",
    "audiofolder": "audiofolder",
    "csv": "csv",
    "json": "json",
    "parquet": "parquet",
    "huggingface": "huggingface",
    "npy": "npy",
    "npz": "npz",
}
_KIND_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".arff": "csv",
    ".data": "csv",
    ".dat": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "huggingface",
    ".npy": "npy",
    ".npz": "npz",
}
_FILE_SUFFIXES = (".tar", ".txt", ".zip", *_KIND_OF_SUFFIX)
"""Suffixes of files that people name behind a kind that does not exist, which is then no module with a function."""

_OTHER_NAMES = {
    "hf": "huggingface",
    "datasets": "huggingface",
    "arrow": "huggingface",
    "images": "imagefolder",
    "folder": "imagefolder",
    "audio": "audiofolder",
    "numpy": "npz",
    "tsv": "csv",
    "arff": "csv",
    "jsonl": "json",
    "ndjson": "json",
}
"""Names that people give to kinds of sources, and what these are called."""

_FOLDERS = ("imagefolder", "audiofolder")
_TABLES = ("csv", "json", "parquet")
_WITH_GROUPS = ("npz", "callable")
"""Sources that hold the groups of their samples beside these, without a column."""

_PICTURES = ("imagefolder", "huggingface")
"""Sources of pictures, which are resized for the model."""

_OF_DATASETS = ("dataset_dict.json", "dataset_info.json", "state.json")
"""Files that ``save_to_disk`` of Hugging Face's ``datasets`` writes beside the samples."""


@dataclass(frozen=True, slots=True)
class Share:
    """Names one device's part of a data set that is partitioned among a simulated fleet.

    Attributes:
        device: Number of the device, from 0.
        devices: Number of devices in the fleet.
        partition: Partitioner that distributes the samples.
    """

    device: int
    devices: int
    partition: Partitioner


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Says which columns of a table are what, and how its rows become samples.

    Attributes:
        target: Names of the columns that are learned; empty for none.
        features: Names of the columns that the model gets, in this order; empty for all other columns of numbers.
        group: Name of the column that tells whose rows they are, such as a person or a machine; ``file`` for the file's
            name; empty if all rows of a file are one series. Of folders of pictures or sounds, a column of their
            ``labels.csv``, or a regular expression that finds the group in the path of a file.
        only: Values of the group's column whose rows are used; empty for all.
        time: Names of the column, or of those of date and clock, by which the rows of a series are ordered; empty for
            their order in the file.
        window: Number of successive rows of one series that are a sample; 0 if each row is one.
        stride: Number of rows from the start of a window to the start of the next.
        horizon: Number of rows from the last row of a sample to the row whose target is learned.
        missing: Numbers that stand for a gap, such as -9999.
        missing_words: Words that stand for a gap in a CSV file, such as ERR.
        encoding: Encoding of the text of a CSV file, as Python calls it; empty to find it out.
        shape: Shape that a row is brought to as a sample, channels first; empty for one dimension.
        header: Whether the first line of a CSV file names the columns; otherwise they are called by their numbers.
    """

    target: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    group: str = ""
    only: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    window: int = 0
    stride: int = 1
    horizon: int = 0
    missing: tuple[float, ...] = ()
    missing_words: tuple[str, ...] = ()
    encoding: str = ""
    header: bool = True
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Says how sounds become samples.

    Attributes:
        rate: Samples per second to which sounds are converted.
        seconds: Length to which sounds are cut, or filled up with silence.
        mels: Number of frequency bands.
    """

    rate: int = 16_000
    seconds: float = 1.0
    mels: int = 40


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Holds a parsed data specification.

    Attributes:
        source: Name of a public data set, or the kind of the user's own source.
        argument: Directory, file or ``module:callable``; empty for a public data set.
        share: Part of one device of a simulated fleet; None for all samples. Held-out samples are never partitioned.
        seed: Seed of the partitioner and of the choice of samples under ``limit``.
        limit: Most samples, chosen at random; None for all samples.
        holdout: Share of samples, 0 to 1, that is held out if the source has no test split of its own; None for the
            default.
        size: Height and width in pixels to which pictures of ``imagefolder`` are resized; None for the model's size.
        channels: Channels of ``imagefolder`` pictures, 1 (grey) or 3 (RGB); None for the model's number.
        undivided: Whether a source without a test split returns all its samples for either split.
        cache: Most bytes that samples take in memory, of sources that can be read in parts; None for the default.
        table: Columns of ``csv``, ``json``, ``parquet`` and ``huggingface``; groups of folders, ``npz`` and functions.
        sound: Conversion of ``audiofolder``.
    """

    source: Source
    argument: str = ""
    share: Share | None = None
    seed: int = 0
    limit: int | None = None
    holdout: float | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    undivided: bool = False
    cache: int | None = None
    table: TableOptions = TableOptions()
    sound: SoundOptions = SoundOptions()

    @property
    def path(self) -> Path:
        """Directory or file of a source on disk."""
        return expand_user(self.argument)

    @property
    def watched(self) -> tuple[Path, ...]:
        """Files and directories whose contents are the samples; none of public data sets and functions."""
        if self.source not in _ON_DISK:
            return ()
        beside = self.path.with_name("y.npy")
        return (self.path, beside) if self.source == "npy" and beside.is_file() else (self.path,)

    @property
    def memory_bound(self) -> int:
        """Most bytes that samples take in memory, of sources that can be read in parts."""
        return CACHE_BYTES if self.cache is None else self.cache

    @property
    def held_out(self) -> float | None:
        """Share of samples, 0 to 1, that a source without a test split holds out; None if it is not split at all."""
        if self.undivided:
            return None
        return HOLDOUT if self.holdout is None else self.holdout

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of pictures, with defaults for what is not set."""
        return (self.channels or CHANNELS, *(self.size or SIZE))

    @property
    def leaves_size_open(self) -> bool:
        """Whether pictures of the source are resized to whatever the model takes."""
        return self.source in _PICTURES and self.size is None and self.channels is None

    def for_model(self, input_shape: tuple[int, ...]) -> DataSpec:
        """Returns the specification with the model's picture size and channels where it sets none itself.

        Args:
            input_shape: Shape of one sample that the model takes, channels first; empty if unknown.
        """
        if self.source not in _PICTURES or len(input_shape) != len(self.shape) or input_shape[0] not in (1, 3):
            return self
        channels, height, width = input_shape
        return replace(self, size=self.size or (height, width), channels=self.channels or channels)

    def whole(self) -> DataSpec:
        """Returns the specification for a source that serves one purpose only: a device's training data or a test set.

        A device trains on all its samples, and a test set is used as a whole for evaluation. Only a source that is
        partitioned among devices, or whose specification sets ``holdout``, is split.
        """
        return replace(self, undivided=True) if self.holdout is None and self.share is None else self


def parse_spec(text: str) -> DataSpec:
    """Parses a data specification.

    Raises:
        DataError: The text is malformed; the message says what is allowed.
    """
    name, mark, tail = text.rpartition("#")
    if not mark or _names_a_path(text, tail):
        name, mark, tail = text, "", ""
    source, argument = _parse_source(name)
    options = _parse_options(tail, text, source) if mark else {}
    if "partition" in options and "share" not in options:
        raise DataError(f"data {text!r}: partition= distributes samples among devices; add share=K/N, or leave it out")
    table = _parse_table(options, text, needs_column=source not in _WITH_GROUPS)
    share = None
    if "share" in options:
        device, devices = _parse_share(options["share"])
        share = Share(device, devices, parse_partitioner(options.get("partition", "group" if table.group else "iid")))
        if share.partition.kind == "group" and not table.group and source not in _WITH_GROUPS:
            raise DataError(f"data {text!r}: partition=group needs group=, a column or a pattern")
    return DataSpec(
        source=source,
        argument=argument,
        share=share,
        seed=_whole(options, "seed", default=0, least=0),
        limit=_whole(options, "limit", default=0, least=1) or None,
        holdout=_fraction(options["holdout"]) if "holdout" in options else None,
        size=_parse_size(options["size"]) if "size" in options else None,
        channels=_parse_channels(options["channels"]) if "channels" in options else None,
        cache=_whole(options, "cache", default=0, least=0) * MEGABYTE if "cache" in options else None,
        table=table,
        sound=_parse_sound(options),
    )


def _names_a_path(text: str, tail: str) -> bool:
    """Tells whether the last # of a specification belongs to a path that is there, as in ``imagefolder:Line #2``."""
    kind, _, argument = text.partition(":")
    if "=" in tail or kind not in _ON_DISK:
        return False
    try:
        return expand_user(argument).exists()
    except (OSError, StorageError):
        return False


def check_source(spec: DataSpec) -> None:
    """Checks that the user's own directory or file exists, before any slow work begins.

    Raises:
        DataError: The directory or file is missing or cannot be accessed, or a library for its kind is missing.
    """
    if spec.source not in _ON_DISK:
        return
    try:
        is_there(spec.path)  # for its errors
        _check_path(spec, spec.path)
    except StorageError as error:  # the home of an unknown user
        raise DataError(str(error)) from None
    except OSError as error:  # no permission, or too long a name
        raise DataError(f"cannot read {spec.argument}: {error.strerror or error}") from None


def require_scipy() -> None:
    """Checks that SciPy is installed, which sounds need.

    Raises:
        DataError: It is not; the message says what to install.
    """
    if find_spec("scipy") is None:
        raise DataError(f"sounds need SciPy: {install_command('audio')}")


def _check_path(spec: DataSpec, path: Path) -> None:
    if spec.source in _FOLDERS and not path.is_dir():
        kind = "image" if spec.source == "imagefolder" else "sound"
        raise DataError(f"there is no {kind} directory {shown_path(path)}{path_hint(spec.argument, path)}")
    if spec.source == "imagefolder" and find_spec("PIL") is None:  # an extra that only pictures need
        raise DataError(f"pictures need Pillow: {install_command('vision')}")
    if spec.source == "audiofolder":
        require_scipy()
    if spec.source in _TABLES and find_spec("pandas") is None:
        raise DataError(f"tables need pandas: {install_command('tables')}")
    if spec.source in ("parquet", "huggingface") and find_spec("pyarrow") is None:
        raise DataError(f"Parquet needs pyarrow: {install_command('tables')}")
    if spec.source == "npz" and not path.is_file():
        raise DataError(f"there is no file {shown_path(path)}{path_hint(spec.argument, path)}")
    hint = "" if path.exists() else path_hint(spec.argument, path)
    if spec.source == "huggingface" and not path.exists() and not hint and _OF_THE_HUB.fullmatch(spec.argument):
        raise DataError(
            f"there is no folder {shown_path(path)}; if it is a data set of the hub, load it first: "
            f"hf download --repo-type dataset {spec.argument} --local-dir DIR, then huggingface:DIR"
        )
    if spec.source in ("parquet", "huggingface", "npy") and path.is_file() and path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path} is an archive: unpack it, and name what was in it")
    if spec.source in (*_TABLES, "huggingface", "npy") and not path.exists():
        raise DataError(f"there is no file or directory {shown_path(path)}{hint}")


def check_outside(spec: DataSpec, directory: Path, option: str) -> None:
    """Checks that an output directory does not lie inside the user's class folders, where it would count as a class.

    Args:
        spec: Data specification.
        directory: Output directory, which need not exist.
        option: Command-line option that sets another output directory, for the message.

    Raises:
        DataError: The output directory lies inside the folder of the samples.
    """
    if spec.source not in _FOLDERS:
        return
    folder = spec.path.resolve()
    if directory.expanduser().resolve().is_relative_to(folder):
        what = "pictures" if spec.source == "imagefolder" else "sounds"
        raise DataError(
            f"{directory} lies among the {what} in {folder}, where its files would be taken for a class: "
            f"name a place outside with {option}"
        )


def _parse_source(name: str) -> tuple[Source, str]:
    for named in DATASET_NAMES:
        if name == named:
            return named, ""  # type: ignore[return-value]  # DATASET_NAMES is a subset of Source
    kind, _, argument = name.partition(":")
    if kind in _ON_DISK:
        if not argument:
            raise DataError(f"data {name!r} lacks its {'directory' if kind in _FOLDERS else 'file'}: write {FORMS}")
        return _ON_DISK[kind], argument
    known = next((known for known in DATASET_NAMES if _letters(known) == _letters(name)), "")
    if known and not Path(name).exists():
        raise DataError(f"data {name!r}: write {known}")
    if kind.lower() in _OTHER_NAMES:
        raise DataError(f"data {name!r}: write {_OTHER_NAMES[kind.lower()]}:{argument}")
    if kind.lower() in _ON_DISK:
        raise DataError(f"data {name!r}: write {kind.lower()}:{argument}")
    may_be_module = _CALLABLE.fullmatch(name) is not None and not _exists(argument)
    if foreign := foreign_kind(name) or (foreign_kind(kind) if argument and not may_be_module else ""):
        raise DataError(f"data {name!r}: {foreign}")
    if _CALLABLE.fullmatch(name):
        if Path(argument).suffix.lower() in _FILE_SUFFIXES:
            raise DataError(f"data {name!r}: there is no kind {kind!r} for files: use {FORMS}")
        return "callable", name
    if remedy := misnamed(name) or _without_kind(name):
        raise DataError(f"data {name!r}: {remedy}")
    raise DataError(f"data {name!r} is unknown: use {FORMS}")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long a name
        return False


def _letters(name: str) -> str:
    """Returns the letters and digits of a name, in which ways to write it do not differ."""
    return "".join(filter(str.isalnum, name.lower()))


def _without_kind(name: str) -> str:
    """Returns what to write for a path of a file or directory, or that there is none; empty for anything else."""
    try:
        path = expand_user(name.removeprefix("file://"))
        if not name or not path.exists():
            is_path = "/" in name and ":" not in name
            return f"there is no {shown_path(path)}{path_hint(name, path)}" if is_path else ""
        if path.name.lower().endswith(ARCHIVES):
            return "it is an archive: unpack it, and name what was in it"
        if path.is_dir():
            kinds = {_KIND_OF_SUFFIX.get(file.suffix.lower(), "") for file in path.iterdir()}
            found = next((kind for kind in ("csv", "parquet", "npy") if kind in kinds), "imagefolder")
            if any((path / name).is_file() for name in _OF_DATASETS):
                found = "huggingface"
        else:
            found = _KIND_OF_SUFFIX.get(path.suffix.lower(), "")
    except (OSError, StorageError):  # no permission, too long a name, or the home of an unknown user
        return ""
    if not found:
        return f"a file of this kind cannot be read; use {FORMS}"
    return f"say what kind of data it is, as in {found}:{path}"


def _parse_options(tail: str, text: str, source: Source) -> dict[str, str]:
    allowed = (*OPTIONS, *OWN_OPTIONS.get(source, ()))
    options: dict[str, str] = {}
    for pair in tail.split("&"):
        key, equals, value = pair.partition("=")
        owners = [kind for kind, keys in OWN_OPTIONS.items() if key in keys]
        if equals and owners and source not in owners:
            raise DataError(f"data {text!r}: {key}= is for {' and '.join(owners)} only")
        if not equals or key not in allowed:
            raise DataError(f"data {text!r}: {pair!r} is no option; after # come {', '.join(allowed)}, joined by &")
        if key in options:
            raise DataError(f"data {text!r}: {key}= is given twice")
        options[key] = value
    return options


def _parse_table(options: dict[str, str], text: str, *, needs_column: bool) -> TableOptions:
    window = _whole(options, "window", default=0, least=1)
    marks = _names(options, "missing")
    if "stride" in options and not window:
        raise DataError(f"data {text!r}: stride= is the distance of windows; add window=N, or leave it out")
    if "only" in options and needs_column and not options.get("group"):
        raise DataError(f"data {text!r}: only= chooses groups; add group=, or leave it out")
    return TableOptions(
        target=_names(options, "target"),
        features=_names(options, "features"),
        group=unquote(options.get("group", "")),
        only=_names(options, "only"),
        time=_time_columns(options),
        window=window,
        stride=_whole(options, "stride", default=max(1, window), least=1),
        horizon=_whole(options, "horizon", default=0, least=0),
        missing=tuple(float(mark) for mark in marks if _is_number(mark)),
        missing_words=tuple(mark for mark in marks if not _is_number(mark)),
        encoding=_encoding(options.get("encoding", "")),
        header=_yes_or_no(options, "header"),
        shape=_parse_shape(options, text) if "shape" in options else (),
    )


def _parse_shape(options: dict[str, str], text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){1,3}", options["shape"]):
        raise DataError(f"shape={options['shape']} is wrong: write sizes, channels first, such as 1x28x28")
    if options.get("window"):
        raise DataError(f"data {text!r}: shape= is for rows that are samples; leave it out, or window=")
    return tuple(map(int, options["shape"].split("x")))


def _yes_or_no(options: dict[str, str], key: str) -> bool:
    """Returns whether an option is on, as it is unless it is given."""
    if (value := options.get(key, "yes")) not in ("yes", "no"):
        raise DataError(f"{key}={value} is wrong: write yes or no")
    return value == "yes"


def _time_columns(options: dict[str, str]) -> tuple[str, ...]:
    """Returns the column of times, or the two of dates and of clock times, as older loggers write them."""
    names = _names(options, "time") if options.get("time") else ()
    if len(names) > _TIME_COLUMNS:
        raise DataError(f"time={options['time']} is wrong: name one column, or the two of the date and the clock")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        raise DataError(f"encoding={name} is unknown: write a name as Python has it, such as shift_jis") from None


def _parse_sound(options: dict[str, str]) -> SoundOptions:
    known = SoundOptions()
    seconds = options.get("seconds", "1")
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", seconds) or not float(seconds):
        raise DataError(f"seconds={seconds} is wrong: write a number of seconds above 0, such as 1.5")
    return SoundOptions(
        rate=_whole(options, "rate", default=known.rate, least=1000),
        seconds=float(seconds),
        mels=_whole(options, "mels", default=known.mels, least=4),
    )


def _names(options: dict[str, str], key: str) -> tuple[str, ...]:
    """Returns the names in a list that commas separate; a name with a comma or an ampersand is written as in a URL."""
    if key not in options:
        return ()
    names = tuple(unicodedata.normalize("NFC", unquote(name.strip())) for name in options[key].split(","))
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"{key}={options[key]} is wrong: write names that differ, separated by commas")
    return names


def _parse_share(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    if match:
        device, devices = int(match[1]), int(match[2])
        if device < devices:
            return device, devices
    raise DataError(f"share={value} is wrong: write share=K/N, device K of N, counted from 0 (0/8 to 7/8)")


def _parse_size(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", value)
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 1 <= height <= _MAX_SIZE and 1 <= width <= _MAX_SIZE:
            return height, width
    raise DataError(f"size={value} is wrong: write size=64 or size=HEIGHTxWIDTH, at most {_MAX_SIZE} pixels")


def _parse_channels(value: str) -> int:
    if value not in ("1", "3"):
        raise DataError(f"channels={value} is wrong: 1 for grey images, 3 for RGB")
    return int(value)


def _whole(options: dict[str, str], key: str, default: int, least: int) -> int:
    value = options.get(key)
    if value is None:
        return default
    if not re.fullmatch(r"\d{1,15}", value) or int(value) < least:
        raise DataError(f"{key}={value} is wrong: write a whole number, {least} or more")
    return int(value)


def _fraction(value: str) -> float:
    if not re.fullmatch(r"0|1|0?\.\d{1,9}|1\.0", value):
        raise DataError(f"holdout={value} is wrong: write a number from 0 to 1")
    return float(value)
