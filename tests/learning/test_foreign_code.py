"""What users' code raises becomes one error that names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError, ModelError
from fedlp_edge.learning.foreign_code import error_line, load_object, run_foreign_code


def test_errors_become_the_one_that_the_caller_asks_for() -> None:
    with pytest.raises(ModelError, match="the model failed: ZeroDivisionError: division by zero"):  # noqa: SIM117
        with run_foreign_code("the model", ModelError):
            _ = 1 / 0


def test_exit_is_an_error_and_ctrl_c_and_own_errors_are_passed_on() -> None:
    with pytest.raises(DataError, match=r"shop failed: it ended with sys\.exit\(3\)"), run_foreign_code("shop"):
        sys.exit(3)
    with pytest.raises(KeyboardInterrupt), run_foreign_code("shop"):
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"^own$"), run_foreign_code("shop", ModelError):
        raise DataError("own")
    with pytest.raises(MemoryError), run_foreign_code("shop", passing=lambda error: isinstance(error, MemoryError)):
        raise MemoryError


def test_output_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with run_foreign_code("shop"):
        print("importing")
    assert capsys.readouterr() == ("", "importing\n")


def test_objects_are_found_by_module_and_dotted_attribute() -> None:
    assert load_object("pathlib:Path.cwd") == Path.cwd
    with pytest.raises(DataError) as caught:
        load_object("pathlib:Path.no")
    assert str(caught.value) == "pathlib:Path.no: pathlib has no attribute 'no'"
    with pytest.raises(DataError) as caught:
        load_object("shop.py:load")
    assert str(caught.value) == "shop.py:load: name the module, not its file: shop:load"


def test_error_text_is_one_short_line() -> None:
    assert error_line(ValueError("a\n  b")) == "a b"
    assert error_line("x" * 301) == "x" * 300 + " ..."
