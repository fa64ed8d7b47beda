"""Reading a data specification."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Partitioner
from fedlp_edge.learning.data.spec.data_spec import DataSpec, Share
from fedlp_edge.learning.data.spec.parsing import parse_spec


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
