"""Exported files are measured on this machine and one is chosen for a device class."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.cli.models.bench import run_bench
from fedlp_edge.cli.models.choose import choice_line, choose_from_card, choose_measured
from fedlp_edge.core.model_card import CARD_FILE, CardEntry, MeasuredCost, ModelCard, encode_card
from fedlp_edge.core.planning.model_choice import AnswerLimits
from fedlp_edge.learning.export.latency import Latency
from fedlp_edge.probe.profiles import DeviceProfile
from tests.serving.model_file import write_model


def latency(milliseconds: float) -> Latency:
    return Latency(
        file="x", milliseconds={50: milliseconds, 90: milliseconds, 99: milliseconds}, mean_milliseconds=milliseconds,
        runs=20, memory=1_000_000, size=1, load_milliseconds=1.0, threads=1,
    )  # fmt: skip


def test_values_come_from_the_description_of_the_directory(tmp_path: Path) -> None:
    files = [
        CardEntry(
            file=f"net-{name}.onnx", depth=1, precision=name, sha256="0" * 64, blake3="0" * 64, bytes=1, value=value,
            max_abs_diff=0.0, agreement=1.0,
        )
        for name, value in (("fp32", 2.0), ("int8", 3.0))
    ]  # fmt: skip
    card = ModelCard(model="net", task="regression", input_shape=(3,), metric="rmse", files=tuple(files))
    (tmp_path / CARD_FILE).write_bytes(encode_card(card))
    measured = {tmp_path / "net-fp32.onnx": latency(5.0), tmp_path / "net-int8.onnx": latency(1.0)}
    choice = choose_measured(measured, DeviceProfile())
    assert choice is not None
    assert choice.file == "net-fp32.onnx"  # int8 is faster, and its error larger
    quick = choose_measured(measured, DeviceProfile(answer_milliseconds=2.0))
    assert quick is not None
    assert quick.file == "net-int8.onnx"


def test_files_without_a_description_tell_their_depth_themselves(tmp_path: Path) -> None:
    for name in ("net.onnx", "net-int8.onnx"):
        write_model(tmp_path / name)
    measured = {tmp_path / "net.onnx": latency(1.0), tmp_path / "net-int8.onnx": latency(2.0)}
    choice = choose_measured(measured, DeviceProfile(name="board"))
    assert choice_line(choice, DeviceProfile(name="board")) == (
        "for board: net.onnx, 1 ms an answer, 1 MB: the fastest of those worth as much; net-int8.onnx takes 2 ms"
    )


def test_a_profile_limits_answers_by_its_own_keys_and_by_the_board() -> None:
    assert DeviceProfile(ram_mb=500).answer_limits == AnswerLimits(memory=500_000_000)
    profile = DeviceProfile(ram_mb=500, answer_memory_mb=20, answer_milliseconds=3.5)
    assert profile.answer_limits == AnswerLimits(milliseconds=3.5, memory=20_000_000)


def test_bench_measures_and_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "tiny.onnx")
    (tmp_path / "board.toml").write_text('name = "board"\nthreads = 1\nanswer_milliseconds = 10000\n')
    code = run_bench([tmp_path / "tiny.onnx"], [], 0, 0.0, as_json=True, profile=str(tmp_path / "board.toml"))
    assert code == 0
    cost, choice = map(json.loads, capsys.readouterr().out.splitlines())
    assert cost["threads"] == 1
    assert (choice["file"], choice["fits"]) == ("tiny.onnx", True)


def test_an_export_chooses_by_the_costs_in_its_description() -> None:
    cost = MeasuredCost(milliseconds={90: 2.0}, mean_milliseconds=2.0, memory=1_000_000)
    entry = CardEntry(
        file="net.onnx", depth=1, precision="fp32", sha256="0" * 64, blake3="0" * 64, bytes=1, max_abs_diff=0.0,
        agreement=1.0, cost=cost,
    )  # fmt: skip
    card = ModelCard(model="net", task="classification", input_shape=(3,), files=(entry,))
    board = DeviceProfile(name="board")
    assert choice_line(choose_from_card(card, board), board) == (
        "for board: net.onnx, 2 ms an answer, 1 MB: no other file is worth as much"
    )
    unmeasured = msgspec.structs.replace(card, files=(msgspec.structs.replace(entry, cost=None),))
    assert choice_line(choose_from_card(unmeasured, board), board) == "for board: no file runs here"
