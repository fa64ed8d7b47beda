from __future__ import annotations

import io

import msgspec
from rich.console import Console

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.reporting.events import AnyEvent, DeviceJoined
from fedlp_edge.reporting.live_view import LiveView, PlainView, open_view, picture, serving_table
from fedlp_edge.reporting.progress import DeviceProgress, RunProgress


def console(*, terminal: bool, height: int = 40) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=120, height=height, color_system=None, legacy_windows=False
    )


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_prints_one_line_per_event_of_note_without_a_terminal(events: list[AnyEvent]) -> None:
    out = console(terminal=False)

    with open_view(out) as view:
        for event in events:
            view.show(event)

    assert isinstance(view, PlainView)
    assert written(out).splitlines() == [
        "run demo-1 starts: small-cnn, 12,345 parameters, 3 depths, 1 rounds",
        "device a (class-l), 200 samples: depth 3 of 3",
        "device b (class-xs), 100 samples: depth 1 of 3",
        "round 1/1: 2.0 s, 1 device; accuracy depth 1: 50.0 %, depth 3: 75.0 %; 9.0 kB down, 5.0 kB up; "
        "nothing in time from b",
        "exported small-cnn-depth-3.onnx: accuracy 75.0 % in onnxruntime, differs from PyTorch by at most 2.0e-07",
        "run finished after 1 rounds: accuracy depth 1: 50.0 %, depth 3: 75.0 %",
    ]


def test_says_once_what_a_device_got(events: list[AnyEvent]) -> None:
    out = console(terminal=False)
    view = PlainView(out)

    for event in [*events[:2], events[1], msgspec.structs.replace(events[1], explanation="depth 2 of 3")]:
        view.show(event)

    assert [line for line in written(out).splitlines() if line.startswith("device a")] == [
        "device a (class-l), 200 samples: depth 3 of 3",
        "device a (class-l), 200 samples: depth 2 of 3",
    ]


def test_says_which_exit_nobody_trains(events: list[AnyEvent]) -> None:
    progress = RunProgress()
    for event in [*events[:2], *events[3:]]:
        progress.apply(event)
    out = console(terminal=True)

    out.print(picture(progress, 110.0, 40))

    lines = [" ".join(line.split()) for line in written(out).splitlines()]
    assert "▮▯▯ 50.0 % no device has this depth" in lines
    assert "▮▮▮ 75.0 % ▇" in lines


def test_leaves_the_last_picture_on_a_terminal(events: list[AnyEvent]) -> None:
    out = console(terminal=True)

    with open_view(out, subtitle="mqtt://127.0.0.1:1883") as view:
        for event in events:
            view.show(event)

    assert isinstance(view, LiveView)
    last = written(out)
    for text in (
        "demo-1",
        "mqtt://127.0.0.1:1883",
        "round 1/1",
        "▮▯▯",
        "delivered",
        "lost",
        "75.0 %",
        "finished after",
    ):
        assert text in last


def test_counts_devices_that_do_not_fit_the_screen(events: list[AnyEvent]) -> None:
    progress = RunProgress()
    progress.apply(events[0])
    for number in range(50):
        progress.apply(
            DeviceJoined(time=1.0, device=f"d{number}", profile="p", samples=1, depth=1, lpr=1.0, explanation="")
        )
    out = console(terminal=True, height=30)

    out.print(picture(progress, 101.0, 30))

    assert "and 37 more" in written(out)
    assert len(written(out).splitlines()) <= 30


def test_draws_before_the_first_event() -> None:
    out = console(terminal=True)

    out.print(picture(RunProgress(), 0.0, 40))

    assert "starting" in written(out)


def test_shows_the_metric_of_a_regression_and_draws_it_beside_its_largest_value() -> None:
    progress = RunProgress(metric="rmse", depths=1)
    progress.device("a").depth = 1
    progress.values = {1: [8.0, 4.0, 1.0]}
    out = console(terminal=True)
    out.print(picture(progress, now=0.0, height=40))

    lines = [" ".join(line.split()) for line in written(out).splitlines()]
    assert "exit RMSE by round" in lines
    assert "▮ 1 █▅▂" in lines


def shown(*devices: DeviceProgress) -> list[list[str]]:
    table = serving_table(devices)
    if table is None:
        return []
    out = console(terminal=False)
    out.print(table)
    return [line.split() for line in written(out).splitlines()]


def test_devices_that_serve_nothing_have_no_table() -> None:
    assert shown(DeviceProgress("a")) == []


def test_a_line_names_the_most_frequent_labels_and_escapes_them() -> None:
    labels = {"[red]nut": 5, "b\x1b[31m": 4, "c": 3, "d": 2, "e": 1}
    report = ServingReport(file="m.onnx", answers=15, refused=2, labels=labels)
    header, row = shown(DeviceProgress("b", serving=report), DeviceProgress("a"))
    assert header == ["serving", "model", "answers", "refused", "50", "%", "99", "%", "drift", "labels"]
    assert row[:7] == ["b", "m.onnx", "15", "2", "-", "-", "-"]
    assert row[7:9] == ["[red]nut", "5,"]
    assert "\x1b" not in " ".join(row)
    assert row[-3:] == ["and", "2", "more"]
