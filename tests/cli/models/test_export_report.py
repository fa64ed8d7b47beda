"""What is printed of the files that an export has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.cli.models.export_report import report
from fedlp_edge.core.model_card import CardEntry, ModelCard, RefusedFile
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE

OUT = Path("out")


def entry(precision: str = "fp32", size: int = 2048, **more: object) -> CardEntry:
    return CardEntry(
        file=f"net-{precision}.onnx",
        depth=1,
        precision=precision,
        sha256="a" * 64,
        blake3="b" * 64,
        bytes=size,
        value=0.5,
        max_abs_diff=1e-6,
        agreement=1.0,
        **more,
    )


def card(*files: CardEntry, **more: object) -> ModelCard:
    given: dict[str, object] = {"metric": "accuracy", "samples": 10, "input_shape": (1, 2, 2), "round": 3} | more
    return ModelCard(model="net", task="classification", fleet="shop", run="r", opset=18, files=files, **given)


def test_a_line_says_what_each_file_holds_and_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(card(entry()), OUT, {1}) == 0

    printed = capsys.readouterr()
    assert printed.out == (
        "out/net-fp32.onnx: depth 1, round 3, accuracy 50.0 %, 2.0 kB, differs from PyTorch by at most 1.0e-06, "
        "same answer for 100.0 %\n"
    )
    assert printed.err == ""


@pytest.mark.parametrize(("size", "said"), [(600, False), (700, True)])
def test_an_int8_file_that_saves_little_is_said(capsys: pytest.CaptureFixture[str], size: int, said: bool) -> None:
    assert report(card(entry(), entry("int8", size)), OUT, {1}) == 0
    assert ("note: net-int8.onnx is small" in capsys.readouterr().err) == said


def test_nothing_is_said_of_the_size_of_an_int8_file_without_its_float32_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(card(entry("int8", 9)), OUT, {1}) == 0
    assert capsys.readouterr().err == ""


def test_what_is_missing_or_worth_less_is_in_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(card(entry("int8", 100, warning="costs 10 points")), OUT, {1}) == EXIT_INCOMPLETE
    assert "warning: net-int8.onnx: costs 10 points\n" in capsys.readouterr().err

    refused = (RefusedFile(depth=2, precision="fp16", reason="no operator"),)
    assert report(card(entry(), refused=refused), OUT, {1}) == EXIT_INCOMPLETE
    assert "error: depth 2 has no fp16 file: no operator\n" in capsys.readouterr().err


def test_files_that_nothing_was_measured_of_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    report(card(entry(), samples=0, calibration="made inputs"), OUT, set())

    printed = capsys.readouterr().err
    assert "compared with PyTorch on made inputs, and nothing says what they are worth" in printed
    assert "warning: the ranges of int8 files come from made inputs\n" in printed
    assert "warning: no device trained exit 1; it answers at random\n" in printed
