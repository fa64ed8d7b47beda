"""This module reads the values of options in a data specification, each with one line on what is wrong."""

from __future__ import annotations

import codecs
import re
import unicodedata
from urllib.parse import unquote

from fedlp_edge.errors import DataError

_MAX_SIZE = 4096


def whole(options: dict[str, str], key: str, default: int, least: int) -> int:
    """Returns a whole number of some size at least, or the default where the option is not given.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    value = options.get(key)
    if value is None:
        return default
    if not re.fullmatch(r"\d{1,15}", value) or int(value) < least:
        raise DataError(f"{key}={value} is wrong: write a whole number, {least} or more")
    return int(value)


def fraction(value: str) -> float:
    """Returns a share from 0 to 1.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    if not re.fullmatch(r"0|1|0?\.\d{1,9}|1\.0", value):
        raise DataError(f"holdout={value} is wrong: write a number from 0 to 1")
    return float(value)


def names(options: dict[str, str], key: str) -> tuple[str, ...]:
    """Returns the names in a list that commas separate; a name with a comma or an ampersand is written as in a URL."""
    if key not in options:
        return ()
    names = tuple(unicodedata.normalize("NFC", unquote(name.strip())) for name in options[key].split(","))
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"{key}={options[key]} is wrong: write names that differ, separated by commas")
    return names


def yes_or_no(options: dict[str, str], key: str) -> bool:
    """Returns whether an option is on, as it is unless it is given."""
    if (value := options.get(key, "yes")) not in ("yes", "no"):
        raise DataError(f"{key}={value} is wrong: write yes or no")
    return value == "yes"


def encoding(name: str) -> str:
    """Returns Python's name of an encoding; empty for none.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        raise DataError(f"encoding={name} is unknown: write a name as Python has it, such as shift_jis") from None


def share(value: str) -> tuple[int, int]:
    """Returns K and N of device K of N, counted from 0.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    if match:
        device, devices = int(match[1]), int(match[2])
        if device < devices:
            return device, devices
    raise DataError(f"share={value} is wrong: write share=K/N, device K of N, counted from 0 (0/8 to 7/8)")


def size(value: str) -> tuple[int, int]:
    """Returns height and width of pictures.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", value)
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 1 <= height <= _MAX_SIZE and 1 <= width <= _MAX_SIZE:
            return height, width
    raise DataError(f"size={value} is wrong: write size=64 or size=HEIGHTxWIDTH, at most {_MAX_SIZE} pixels")


def channels(value: str) -> int:
    """Returns the number of channels of pictures.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    if value not in ("1", "3"):
        raise DataError(f"channels={value} is wrong: 1 for grey images, 3 for RGB")
    return int(value)


def shape(options: dict[str, str], text: str) -> tuple[int, ...]:
    """Returns the shape that rows are brought to, channels first.

    Raises:
        DataError: It is malformed; the message says what is allowed.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){1,3}", options["shape"]):
        raise DataError(f"shape={options['shape']} is wrong: write sizes, channels first, such as 1x28x28")
    if options.get("window"):
        raise DataError(f"data {text!r}: shape= is for rows that are samples; leave it out, or window=")
    return tuple(map(int, options["shape"].split("x")))


def is_number(text: str) -> bool:
    """Tells whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
