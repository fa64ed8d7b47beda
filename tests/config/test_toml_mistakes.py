"""Mistakes that people and editors make in TOML files, as the parser meets them."""

from __future__ import annotations

import tomllib

import pytest

from fedlp_edge.config.toml_mistakes import look_alike, syntax_hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("fleet = shop", "text stands in quotes"),
        ("url = mqtt://broker.local:1883  # ours", "text stands in quotes"),
        ("data = imagefolder:/data/parts", "text stands in quotes"),
        ("fleet = \u00abshop\u00bb", 'write " as quotes'),
        ("fleet = `shop`", 'write " as quotes'),
        ("fl\u200beet = 1", "an invisible character: type the line again"),
        ("once = yes", "truth values are true and false"),
        ("id = null", "leave the line out where there is no value"),
        ("id = None", "leave the line out where there is no value"),
        ("lr = 0,1", "a decimal point, no comma"),
        ("; the agent", "comments begin with #"),
        ("// the agent", "comments begin with #"),
        ('fleet = "shop";', "nothing stands behind a value"),
        ('fleet = "shop",', "nothing stands behind a value"),
        ("threads = 3\0\0", "zero bytes, as a power cut leaves them: write the file again"),
    ],
)
def test_names_what_to_write_instead(line: str, hint: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(line)
    assert syntax_hint(str(caught.value), line) == f" ({hint})"


def test_says_nothing_of_what_may_be_anything() -> None:
    assert syntax_hint("Invalid value", "port =") == ""


def test_names_the_first_sign_that_is_no_ascii() -> None:
    assert look_alike("c\u0430m-\u00e4") == "\u0430 is a cyrillic small letter a"
    assert look_alike("cam\u00a01") == look_alike("cam-1") == look_alike("") == ""
