from __future__ import annotations

import tomllib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.config.toml_writer import to_toml

VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


class Part(msgspec.Struct):
    path: str
    limit: int | None = None


class Settings(msgspec.Struct):
    parts: tuple[Part, ...]
    note: str | None = None


def test_writes_values_before_tables() -> None:
    document = {"fleet": {"name": "shop", "broker": {"url": "mqtt://b"}}, "rounds": 3, "own key": True}

    assert to_toml(document) == (
        'rounds = 3\n"own key" = true\n\n[fleet]\nname = "shop"\n\n[fleet.broker]\nurl = "mqtt://b"\n'
    )


def test_leaves_out_keys_without_a_value_at_every_depth() -> None:
    assert to_toml(Settings((Part("a"), Part("b", 2)))) == 'parts = [{path = "a"}, {path = "b", limit = 2}]\n'
    assert to_toml({"fleet": {"name": None}}) == "\n[fleet]\n"


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_reads_back_what_was_written(document: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(document)) == document
