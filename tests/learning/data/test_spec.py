"""Reading a data specification."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Partitioner
from fedlp_edge.learning.data.spec import DataSpec, Share, check_source, parse_spec


def test_parse_spec_reads_a_named_set() -> None:
    assert parse_spec("digits") == DataSpec("digits")


def test_parse_spec_reads_every_option() -> None:
    assert parse_spec("fashion-mnist#share=3/8&partition=dirichlet:0.5&seed=1&limit=1500") == DataSpec(
        "fashion-mnist", share=Share(3, 8, Partitioner("dirichlet", 0.5)), seed=1, limit=1500
    )
    assert parse_spec("imagefolder:/data/a#b#size=64x48&channels=1&holdout=.25") == DataSpec(
        "imagefolder", "/data/a#b", size=(64, 48), channels=1, holdout=0.25
    )


def test_parse_spec_reads_own_data() -> None:
    assert parse_spec("npz:shift.npz") == DataSpec("npz", "shift.npz")
    assert parse_spec("factory.data:load") == DataSpec("callable", "factory.data:load")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is unknown: use digits, fashion-mnist"),
        ("digit", "is unknown: use digits"),
        ("Fashion-MNIST", "data 'Fashion-MNIST': write fashion-mnist"),
        ("CSV:t.csv#target=y", "data 'CSV:t.csv': write csv:t.csv"),
        ("npz:", "lacks its file"),
        ("imagefolder:", "lacks its directory"),
        ("cifar-10", "data 'cifar-10': write cifar10"),
        ("FashionMNIST", "data 'FashionMNIST': write fashion-mnist"),
        ("hf:femnist", "data 'hf:femnist': write huggingface:femnist"),
        ("/no/such/folder", "there is no /no/such/folder"),
        ("~nobody-of-this-name/a", "is unknown: use digits"),
        ("digits#", "is no option"),
        ("digits#share", "'share' is no option"),
        ("digits#colour=3", "'colour=3' is no option"),
        ("csv:t.csv#header=none", "header=none is wrong: write yes or no"),
        ("csv:t.csv#shape=28", "shape=28 is wrong: write sizes, channels first, such as 1x28x28"),
        ("csv:t.csv#shape=1x2&window=3", "shape= is for rows that are samples; leave it out, or window="),
        ("csv:t.csv#encoding=shift", "encoding=shift is unknown: write a name as Python has it"),
        ("csv:t.csv#missing=-1,,2", "missing=-1,,2 is wrong: write names that differ, separated by commas"),
        ("digits#seed=1&seed=2", "seed= is given twice"),
        ("digits#share=8/8", "share=8/8 is wrong"),
        ("digits#share=-1/8", "share=-1/8 is wrong"),
        ("digits#share=1/0", "share=1/0 is wrong"),
        ("digits#partition=iid", "add share=K/N"),
        ("digits#share=0/2&partition=zipf", "partition 'zipf' is unknown"),
        ("digits#limit=0", "limit=0 is wrong"),
        ("digits#seed=x", "seed=x is wrong"),
        ("digits#size=64", "for imagefolder and huggingface only"),
        ("imagefolder:a#size=0", "size=0 is wrong"),
        ("imagefolder:a#channels=4", "channels=4 is wrong"),
        ("npz:a#holdout=2", "holdout=2 is wrong"),
    ],
)
def test_parse_spec_refuses_in_one_line_that_says_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_spec(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_parse_spec_knows_no_other_error(text: str) -> None:
    with contextlib.suppress(DataError):
        parse_spec(text)


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
        parse_spec(name)
    assert words in str(caught.value)


def test_a_data_set_of_the_hub_is_to_be_loaded_first() -> None:
    with pytest.raises(
        DataError, match=r"there is no folder owner/name .*: hf download --repo-type dataset owner/name"
    ):
        check_source(parse_spec("huggingface:owner/name"))


def test_check_source_refuses_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_source(parse_spec("digits"))
    check_source(parse_spec("module:callable"))
    check_source(parse_spec(f"npz:{tmp_path / 'file'}"))
    check_source(parse_spec(f"imagefolder:{tmp_path}"))
    for source, wrong in (("npz", tmp_path), ("imagefolder", tmp_path / "file"), ("npz", tmp_path / "other")):
        with pytest.raises(DataError, match=str(wrong)):
            check_source(parse_spec(f"{source}:{wrong}"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (f"imagefolder:{'a' * 5000}", "File name too long"),
        ("imagefolder:~nobody-of-this-name/parts", "^~nobody-of-this-name/parts: this machine has no user nobody-of"),
    ],
)
def test_check_source_says_why_a_path_cannot_be_looked_at(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_source(parse_spec(spec))
