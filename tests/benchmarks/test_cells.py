"""Finished cells are kept, whatever happens to the process that computes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results.cells import CellStore, read_cells, write_cells
from benchmarks.results.pages import markdown_table, replace_section


def test_computes_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cells.jsonl"
    CellStore(path).add("a", {"value": 1})
    computed: list[str] = []

    def compute(cell: str) -> dict[str, int]:
        computed.append(cell)
        return {"value": 2}

    CellStore(path).fill(["a", "b"], compute)

    assert computed == ["b"]
    assert read_cells(path) == {"a": {"cell": "a", "value": 1}, "b": {"cell": "b", "value": 2}}


def test_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_text('{"cell": "a", "value": 1}\n{"cell": "b", "val', encoding="utf-8")

    store = CellStore(path)
    assert list(store.done) == ["a"]
    store.add("c", {"value": 3})
    assert list(read_cells(path)) == ["a", "c"]


def test_writes_cells_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cells.jsonl"
    write_cells(path, {"b": {"cell": "b"}, "a": {"cell": "a"}})

    assert path.read_text(encoding="utf-8") == '{"cell": "a"}\n{"cell": "b"}\n'


def test_replaces_its_own_section_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- table -->\nold\n<!-- /table -->\n\nafter\n", encoding="utf-8")

    replace_section(page, "table", "new")
    replace_section(page, "table", "newer")

    assert page.read_text(encoding="utf-8") == "before\n\n<!-- table -->\n\nnewer\n\n<!-- /table -->\n\nafter\n"
    with pytest.raises(ValueError, match="once each"):
        replace_section(page, "picture", "new")


def test_lays_out_a_table() -> None:
    table = markdown_table(["name", "value"], [["a", "1"], ["b", "2"]])

    assert table.splitlines() == ["| name | value |", "| --- | ---: |", "| a | 1 |", "| b | 2 |"]
