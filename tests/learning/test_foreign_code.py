"""What users' code raises becomes one error that names it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlp_edge.errors import DataError, ModelError
from fedlp_edge.learning.foreign_code import (
    error_line,
    load_object,
    misnamed,
    module_being_imported,
    run_foreign_code,
)


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


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("net.ipynb:make", "a notebook cannot be imported"),
        ("my-net:make", "the name of a module has letters, digits and _ alone"),
        ("code/net.py:make", "name the module, not its path: net:make, started in code or with it on PYTHONPATH"),
        ("net:make", ""),
        ("shop.net:Net.make", ""),
        ("C:/net", ""),
        ("imagefoldr:/data/parts", ""),
    ],
)
def test_names_that_nobody_can_import_are_told_what_to_do(name: str, remedy: str) -> None:
    assert misnamed(name).startswith(remedy)
    assert bool(misnamed(name)) == bool(remedy)


def test_module_of_python_that_hides_the_users_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("def make(): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the directory is added to it, for the process
    with pytest.raises(DataError, match=r"has no attribute 'make': /.*colorsys\.py goes before colorsys\.py here"):
        load_object("colorsys:make")


def test_what_foreign_code_switches_for_the_whole_process_is_switched_back() -> None:
    before = list(warnings.filters)
    with run_foreign_code("shop"):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        warnings.simplefilter("error")
        np.seterr(all="raise")
    assert torch.zeros(1).dtype == torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert torch.is_grad_enabled()
    assert warnings.filters == before
    assert np.geterr()["over"] != "raise"


def test_foreign_code_runs_where_torch_cannot_tell_its_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> torch.device:
        raise AttributeError("'NoneType' object has no attribute 'device'")  # as torch 2.6 does

    monkeypatch.setattr(torch, "get_default_device", unknown)
    with run_foreign_code("shop"):
        made = torch.zeros(1)
    assert made.device.type == "cpu"


def test_error_text_is_one_short_line() -> None:
    assert error_line(ValueError("a\n  b")) == "a b"
    assert error_line("x" * 301) == "x" * 300 + " ..."


def test_code_that_an_import_runs_can_tell_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from fedlp_edge.learning.foreign_code import module_being_imported\nfound = module_being_imported()\n"
    (tmp_path / "asks_who_imports_it.py").write_text(code)
    assert load_object("asks_who_imports_it:found") == "asks_who_imports_it"
    assert module_being_imported() == ""


def test_what_a_notebook_defines_is_to_be_written_into_a_file() -> None:
    with pytest.raises(ModelError, match="such as Net, no other process can import: write it into a file"):
        load_object("__main__:Net", ModelError)
