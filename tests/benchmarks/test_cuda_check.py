"""The check of a GPU tells what failed, and that a failure costs one section alone."""

from __future__ import annotations

import sys

import pytest

from benchmarks.cuda_check import Report, Section, outcome_of, run_section
from benchmarks.cuda_sections import SECTIONS, CheckError, Outcome, Processor


def failing(processor: Processor) -> Outcome:
    raise CheckError(f"the planner\nmade nothing of it on {processor}")


def broken(processor: Processor) -> Outcome:
    raise RuntimeError("CUDA error: no kernel image")


@pytest.mark.parametrize(
    ("section", "text"),
    [(failing, "the planner made nothing of it on cpu"), (broken, "RuntimeError: CUDA error: no kernel image")],
)
def test_whatever_goes_wrong_in_a_section_is_its_outcome(
    monkeypatch: pytest.MonkeyPatch, section: object, text: str
) -> None:
    monkeypatch.setitem(SECTIONS, "planted", (section, 1.0))
    assert outcome_of("planted", "cpu") == Outcome("fail", text)


@pytest.mark.parametrize(
    ("program", "limit", "status", "text"),
    [
        ('print(\'noise\'); print(\'{"status": "pass", "text": "fine"}\')', 30.0, "pass", "fine"),
        ("import sys; sys.exit('Illegal instruction')", 30.0, "fail", "ended with 1: Illegal instruction"),
        (
            "import time; time.sleep(60)",
            0.2,
            "fail",
            "took more than 0 seconds (--patience allows more)",
        ),
    ],
)
def test_a_section_is_a_process_that_may_die(program: str, limit: float, status: str, text: str) -> None:
    section = run_section("memory", [sys.executable, "-c", program], limit, {})
    assert (section.name, section.status, section.text) == ("memory", status, text)


def test_the_table_names_card_and_driver() -> None:
    section = Section("memory", "fail", "30 of 37 depths | within 10 %", {}, 12.34)
    report = Report(
        "cuda", "NVIDIA T4", "550.1", "2.14.1", "13.0", "Xeon", 4, "Linux 6.1, Python 3.11", sections=(section,)
    )
    heading, _, _, _, row = report.table.splitlines()
    assert heading == (
        "NVIDIA T4, driver 550.1; PyTorch 2.14.1, CUDA 13.0; Xeon, 4 cores; Linux 6.1, Python 3.11; checked on cuda"
    )
    assert row == "| memory | fail | 12.3 | 30 of 37 depths / within 10 % |"
