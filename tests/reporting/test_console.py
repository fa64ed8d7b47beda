from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from fedlp_edge.reporting.console import open_console, print_unwrapped


def test_names_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    open_console().print("part[a].png [bold]x[/bold] :ok:")
    open_console(stderr=True).print("to the log")

    assert capsys.readouterr() == ("part[a].png [bold]x[/bold] :ok:\n", "to the log\n")


def test_tables_are_whole_on_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=20)
    table = Table("a" * 30, "b" * 30)

    print_unwrapped(console, table)

    assert isinstance(console.file, io.StringIO)
    assert "a" * 30 in console.file.getvalue()
    assert "b" * 30 in console.file.getvalue()
    assert console.width == 20


def test_width_is_restored_after_an_error() -> None:
    class Broken:
        def __rich__(self) -> str:
            raise ValueError("broken")

    console = Console(file=io.StringIO(), width=20)

    with pytest.raises(ValueError, match="broken"):
        print_unwrapped(console, Broken())
    assert console.width == 20


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_width_that_no_terminal_has_is_not_believed(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("samples")
    table.add_row("60, in memory")
    open_console().print(table)
    assert "60, in memory" in capsys.readouterr().out
