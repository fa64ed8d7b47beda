"""Kinds of sources by their names, and what is written in place of these."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.source_kinds import parse_source


def test_a_source_is_its_kind_and_where_it_is() -> None:
    assert parse_source("digits") == ("digits", "")
    assert parse_source("csv:C:/a b.csv") == ("csv", "C:/a b.csv")
    assert parse_source("package.module:load") == ("callable", "package.module:load")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.csv", "say what kind of data it is, as in csv:a.csv"),
        ("B.PARQUET", "say what kind of data it is, as in parquet:B.PARQUET"),
        ("c.npz", "say what kind of data it is, as in npz:c.npz"),
        ("./photos", "say what kind of data it is, as in imagefolder:photos"),
        ("tables", "say what kind of data it is, as in csv:tables"),
        ("packed.zip", "it is an archive: unpack it, and name what was in it"),
        ("stored", "say what kind of data it is, as in huggingface:stored"),
        ("d.xlsx", "workbooks are not read as they are; save the table as CSV, and name csv:FILE"),
        ("d.odd", "a file of this kind cannot be read; use digits"),
        ("e.csv", "is unknown: use digits"),
    ],
)
def test_a_path_without_the_kind_of_its_data_is_told_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("photos", "tables", "stored"):
        Path(there).mkdir()
    for file in ("a.csv", "B.PARQUET", "c.npz", "d.xlsx", "d.odd", "packed.zip", "tables/1.csv", "stored/state.json"):
        Path(file).touch()
    with pytest.raises(DataError) as caught:
        parse_source(name)
    assert words in str(caught.value)


def test_options_behind_a_colon_are_told_their_sign() -> None:
    with pytest.raises(DataError, match=r"^data 'digits:share=0/2': options stand behind #: write digits#share=0/2$"):
        parse_source("digits:share=0/2")
