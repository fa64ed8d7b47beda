"""This module parses data specifications, single lines of text that name samples.

An example is ``fashion-mnist#share=3/8&partition=dirichlet:0.5&seed=1&limit=1500``: short enough for a command line,
and complete, so that two processes with the specification get equal samples. Parsing needs neither data nor PyTorch,
so a command can refuse a wrong specification at once.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from fedlp_edge.errors import DataError, StorageError
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.learning.data.spec import option_values
from fedlp_edge.learning.data.spec.data_spec import MEGABYTE, DataSpec, Share, SoundOptions, TableOptions
from fedlp_edge.learning.data.spec.source_kinds import ON_DISK, WITH_GROUPS, Source, parse_source
from fedlp_edge.system.directories import expand_user

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

_TIME_COLUMNS = 2


def parse_spec(text: str) -> DataSpec:
    """Parses a data specification.

    Raises:
        DataError: The text is malformed; the message says what is allowed.
    """
    name, mark, tail = text.rpartition("#")
    if not mark or _names_a_path(text, tail):
        name, mark, tail = text, "", ""
    source, argument = parse_source(name)
    options = _parse_options(tail, text, source) if mark else {}
    if "partition" in options and "share" not in options:
        raise DataError(f"data {text!r}: partition= distributes samples among devices; add share=K/N, or leave it out")
    table = _parse_table(options, text, needs_column=source not in WITH_GROUPS)
    share = None
    if "share" in options:
        device, devices = option_values.share(options["share"])
        share = Share(device, devices, parse_partitioner(options.get("partition", "group" if table.group else "iid")))
        if share.partition.kind == "group" and not table.group and source not in WITH_GROUPS:
            raise DataError(f"data {text!r}: partition=group needs group=, a column or a pattern")
    return DataSpec(
        source=source,
        argument=argument,
        share=share,
        seed=option_values.whole(options, "seed", default=0, least=0),
        limit=option_values.whole(options, "limit", default=0, least=1) or None,
        holdout=option_values.fraction(options["holdout"]) if "holdout" in options else None,
        size=option_values.size(options["size"]) if "size" in options else None,
        channels=option_values.channels(options["channels"]) if "channels" in options else None,
        cache=option_values.whole(options, "cache", default=0, least=0) * MEGABYTE if "cache" in options else None,
        table=table,
        sound=_parse_sound(options),
    )


def _names_a_path(text: str, tail: str) -> bool:
    """Tells whether the last # of a specification belongs to a path that is there, as in ``imagefolder:Line #2``."""
    kind, _, argument = text.partition(":")
    if "=" in tail or kind not in ON_DISK:
        return False
    try:
        return expand_user(argument).exists()
    except (OSError, StorageError):
        return False


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
    window = option_values.whole(options, "window", default=0, least=1)
    marks = option_values.names(options, "missing")
    if "stride" in options and not window:
        raise DataError(f"data {text!r}: stride= is the distance of windows; add window=N, or leave it out")
    if "only" in options and needs_column and not options.get("group"):
        raise DataError(f"data {text!r}: only= chooses groups; add group=, or leave it out")
    return TableOptions(
        target=option_values.names(options, "target"),
        features=option_values.names(options, "features"),
        group=unquote(options.get("group", "")),
        only=option_values.names(options, "only"),
        time=_time_columns(options),
        window=window,
        stride=option_values.whole(options, "stride", default=max(1, window), least=1),
        horizon=option_values.whole(options, "horizon", default=0, least=0),
        missing=tuple(float(mark) for mark in marks if option_values.is_number(mark)),
        missing_words=tuple(mark for mark in marks if not option_values.is_number(mark)),
        encoding=option_values.encoding(options.get("encoding", "")),
        header=option_values.yes_or_no(options, "header"),
        shape=option_values.shape(options, text) if "shape" in options else (),
    )


def _time_columns(options: dict[str, str]) -> tuple[str, ...]:
    """Returns the column of times, or the two of dates and of clock times, as older loggers write them."""
    names = option_values.names(options, "time") if options.get("time") else ()
    if len(names) > _TIME_COLUMNS:
        raise DataError(f"time={options['time']} is wrong: name one column, or the two of the date and the clock")
    return names


def _parse_sound(options: dict[str, str]) -> SoundOptions:
    known = SoundOptions()
    seconds = options.get("seconds", "1")
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", seconds) or not float(seconds):
        raise DataError(f"seconds={seconds} is wrong: write a number of seconds above 0, such as 1.5")
    return SoundOptions(
        rate=option_values.whole(options, "rate", default=known.rate, least=1000),
        seconds=float(seconds),
        mels=option_values.whole(options, "mels", default=known.mels, least=4),
    )
