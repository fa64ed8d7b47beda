from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.model_card import CardEntry, MeasuredCost, ModelCard, RefusedFile, decode_card
from fedlp_edge.errors import ExportError
from fedlp_edge.reporting.cards.model_card_page import card_page, write_card


def entry(file: str, value: float | None, exits: tuple[int, ...] = (), warning: str = "") -> CardEntry:
    shares = {1: 0.25, 2: 0.75} if exits else {}
    return CardEntry(
        file=file, depth=2, exits=exits, threshold=0.9 if exits else None, precision="fp32", sha256="a" * 64,
        blake3="b" * 64, bytes=4096, value=value, max_abs_diff=1e-6, agreement=1.0, warning=warning,
        cost=MeasuredCost(milliseconds={50: 1.0, 90: 2.0, 99: 3.0}, mean_milliseconds=1.5, memory=10**6, exits=shares),
    )  # fmt: skip


CARD = ModelCard(
    model="net", task="classification", classes=("a|b", "c"), input_shape=(1, 2, 2), input_type="uint8",
    license="CC-BY-4.0", fleet="shop", run="r", round=3, metric="accuracy", samples=10, opset=18, processor="P",
    files=(
        msgspec.structs.replace(entry("net-depth-2.onnx", 0.9), self_test="net-depth-2.selftest.npz"),
        entry("net-early-exit.onnx", 0.89, (1, 2), "raise it"),
    ),
    refused=(RefusedFile(depth=1, precision="int8", reason="no operator"),),
)  # fmt: skip


def test_the_page_says_what_each_file_is_worth_and_costs() -> None:
    page = card_page(CARD, drawn=True)
    row = "| `net-depth-2.onnx` | 2 | fp32 | 90.0 % | 4.1 kB | 1.5 ms | 1 ms | 2 ms | 3 ms | 1.0 MB | 100.0 % |"
    for line in (
        row,
        "| licence | CC-BY-4.0 |",
        "| classes | a\\|b, c |",
        "| cost measured on | P, a thread per core |",
        "- `net-early-exit.onnx`: raise it",
        "- `net-depth-2.selftest.npz` for `net-depth-2.onnx`",
        "- no file of depth 1 in int8: no operator",
        f"{'a' * 64}  net-depth-2.onnx",
    ):
        assert line in page.splitlines()
    assert "stops at the first exit that is 90.0 % sure: 25.0 % of the samples at depth 1" in page


def test_all_three_are_written(tmp_path: Path) -> None:
    write_card(CARD, tmp_path)
    assert decode_card((tmp_path / "card.json").read_bytes()) == CARD
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    assert "](card.png)" in (tmp_path / "card.md").read_text()


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot write the card to .*missing"):
        write_card(CARD, tmp_path / "missing")


def test_the_page_says_where_files_answer_with_the_mean_of_exits() -> None:
    row = "| files answer with | the mean of the exits up to their depth |"
    assert row in card_page(msgspec.structs.replace(CARD, answer="mean"), drawn=False).splitlines()
    assert "files answer with" not in card_page(CARD, drawn=False)
