from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console

from fedlp_edge.reporting.answer_counts import AnswerCounts
from fedlp_edge.reporting.report import print_report, report
from fedlp_edge.reporting.summary import Summary, Traffic, save


def report_of(summary: Summary, directory: str = "runs/demo") -> str:
    file = io.StringIO()
    Console(file=file, width=140).print(report(summary, Path(directory)))
    return file.getvalue()


def test_reads_the_summary_of_a_run_directory(tmp_path: Path, summary: Summary) -> None:
    save(summary, tmp_path / "summary.json")
    file = io.StringIO()

    print_report(tmp_path, Console(file=file, width=140))

    assert "Run demo-1" in file.getvalue()


def test_reports_a_finished_run(summary: Summary) -> None:
    text = report_of(summary)

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Run demo-1 small-cnn, 1 rounds in 2.0 s, finished" in lines
    assert "▮▯▯ 1 50.0 % - - no device has this depth" in lines
    assert "▮▮▮ 3 75.0 % 74.5 % 2.0e-07 onnx/small-cnn-depth-3.onnx" in lines
    assert "a class-l ▮▮▮ 3 1.00 1/1 200 8.2 kB 8.1 kB" in lines
    assert "b class-xs ▮▯▯ 1 0.50 0/1 0 800 B 0 B" in lines
    assert "On the wire: 9.0 kB down, 8.1 kB up. As the paper counts: 4.0 k parameters per client and round." in lines
    assert "Use a model: fedlp infer runs/demo/onnx/small-cnn-depth-3.onnx IMAGE" in lines


def test_reports_the_traffic_of_all_rounds_by_purpose(summary: Summary) -> None:
    (entry,) = summary.rounds
    counted = msgspec.structs.replace(entry, traffic={"control": Traffic(500, 9), "model": Traffic(4000, 3)})
    text = " ".join(report_of(msgspec.structs.replace(summary, rounds=(counted, counted))).split())

    assert "16.2 kB up. At the coordinator: control 1.0 kB, model 8.0 kB. As the paper" in text


def test_names_the_encoding_of_devices_that_have_one(summary: Summary) -> None:
    (entry,) = summary.rounds
    devices = (msgspec.structs.replace(entry.devices[0], encoding="int8+zstd"), entry.devices[1])
    encoded = msgspec.structs.replace(summary, rounds=(msgspec.structs.replace(entry, devices=devices),))

    lines = [" ".join(line.split()) for line in report_of(encoded).splitlines()]
    assert "a class-l ▮▮▮ 3 1.00 1/1 200 8.2 kB 8.1 kB int8+zstd" in lines
    assert "b class-xs ▮▯▯ 1 0.50 0/1 0 800 B 0 B none" in lines


def test_quotes_a_path_for_the_shell(summary: Summary) -> None:
    assert "fedlp infer 'my runs/onnx/small-cnn-depth-3.onnx' IMAGE" in report_of(summary, "my runs")


def test_names_what_a_model_takes(summary: Summary) -> None:
    table = msgspec.structs.replace(summary.onnx[0], takes="TABLE.csv")
    assert "depth-3.onnx TABLE.csv" in report_of(msgspec.structs.replace(summary, onnx=(table,)))


def test_does_not_break_a_command_across_lines(tmp_path: Path, summary: Summary) -> None:
    save(summary, tmp_path / "summary.json")
    file = io.StringIO()

    print_report(tmp_path, Console(file=file, width=40))

    assert f"fedlp infer {tmp_path}/onnx/small-cnn-depth-3.onnx IMAGE" in file.getvalue()


def test_reports_a_run_that_has_not_begun(summary: Summary) -> None:
    text = report_of(msgspec.structs.replace(summary, rounds=(), final=None, onnx=()))

    assert "0 rounds in 0.0 s, not finished" in text
    assert "Everything is in runs/demo" in text


def test_reports_a_crowd_by_class_and_depth(summary: Summary) -> None:
    (entry,) = summary.rounds
    crowd = tuple(msgspec.structs.replace(entry.devices[0], id=f"dev-{number}") for number in range(41))
    rounds = (msgspec.structs.replace(entry, devices=(*crowd, entry.devices[1])),)
    lines = [" ".join(line.split()) for line in report_of(msgspec.structs.replace(summary, rounds=rounds)).splitlines()]
    assert "class-l ▮▮▮ 3 41 41/41 8,200 336 kB 332 kB" in lines
    assert "class-xs ▮▯▯ 1 1 0/1 0 800 B 0 B" in lines


def test_reports_what_a_simulation_knows_of_ensembles_and_of_the_devices_own_classes(summary: Summary) -> None:
    (entry,) = summary.rounds
    judged = msgspec.structs.replace(entry, ensemble={1: 0.5, 3: 0.8}, tiers={3: 0.9})
    lines = [
        " ".join(line.split()) for line in report_of(msgspec.structs.replace(summary, rounds=(judged,))).splitlines()
    ]
    assert "exit PyTorch ensemble own classes onnxruntime max |difference| ONNX file" in lines
    assert "▮▮▮ 3 75.0 % 80.0 % 90.0 % 74.5 % 2.0e-07 onnx/small-cnn-depth-3.onnx" in lines
    assert "▮▯▯ 1 50.0 % 50.0 % - - - no device has this depth" in lines


def test_report_of_models_that_answer_with_the_mean_of_exits_shows_each_exit_beside_it(summary: Summary) -> None:
    (entry,) = summary.rounds
    judged = msgspec.structs.replace(entry, answer="mean", exits={1: 0.5, 3: 0.25}, ensemble={1: 0.5, 3: 0.75})
    later = msgspec.structs.replace(judged, round=2, exits={1: 0.5, 3: 0.125})  # the model of round 1 is exported
    text = report_of(msgspec.structs.replace(summary, rounds=(judged, later)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "exits up to PyTorch exit alone onnxruntime max |difference| ONNX file" in lines
    assert "▮▮▮ 3 75.0 % 25.0 % 74.5 % 2.0e-07 onnx/small-cnn-depth-3.onnx" in lines


def test_names_units_that_nobody_sent(summary: Summary) -> None:
    (entry,) = summary.rounds
    sent = msgspec.structs.replace(entry, coverage={"L1": {"a": 200}, "H1": {}, "H3": {}})
    again = msgspec.structs.replace(summary, rounds=(entry, sent))
    text = " ".join(report_of(again).split())
    assert "Without an update: H1 in every round; H3 in 1 of 2. An exit is learned only where a device" in text


def test_is_never_cut_by_a_narrow_terminal(tmp_path: Path, summary: Summary) -> None:
    save(summary, tmp_path / "summary.json")
    file = io.StringIO()

    print_report(tmp_path, Console(file=file, width=40))

    assert "onnx/small-cnn-depth-3.onnx" in file.getvalue()
    assert "…" not in file.getvalue()


def test_a_run_without_an_accuracy_is_reported_by_its_main_metric(summary: Summary) -> None:
    (entry,) = summary.rounds
    assert summary.final is not None
    judged = msgspec.structs.replace(entry, accuracy={}, metrics={3: {"r2": 0.9, "rmse": 2.5, "mae": 2.0}}, ensemble={})
    final = msgspec.structs.replace(summary.final, accuracy={})
    found = msgspec.structs.replace(summary, rounds=(judged,), final=final, onnx=(), task="regression", metric="rmse")
    lines = report_of(found).splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert "exit RMSE" in words
    assert "▮▮▮ 3 2.5" in words


def test_says_which_classes_are_confused_most(summary: Summary) -> None:
    assert summary.final is not None
    counts = AnswerCounts(source="central", depth=3, samples=9, names=("cat", "dog"), confusion=((3, 2), (0, 4)))
    final = msgspec.structs.replace(summary.final, answers=counts)
    text = report_of(msgspec.structs.replace(summary, final=final))
    assert "Most often confused at depth 3: cat taken for dog (2 of 5)." in text


def test_shows_the_metric_that_a_run_is_judged_by_beside_the_accuracy(summary: Summary) -> None:
    (entry,) = summary.rounds
    judged = msgspec.structs.replace(entry, metrics={3: {"accuracy": 0.75, "macro_f1": 0.625}})
    text = report_of(msgspec.structs.replace(summary, rounds=(judged,), metric="macro_f1"))
    assert "macro F1" in text
    assert "62.5 %" in text
