"""This module shows a running run: a live picture on a terminal, one line per important event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.events import AnyEvent, DeviceJoined
from fedlp_edge.reporting.formatting import (
    ANSWERING,
    UNTRAINED,
    depth_bar,
    format_bytes,
    format_metric,
    format_scores,
    format_seconds,
    is_share,
    main_metric,
    metric_label,
    sparkline,
)
from fedlp_edge.reporting.progress import DeviceProgress, DeviceState, RunProgress
from fedlp_edge.reporting.text_view import line_for
from fedlp_edge.system.printable import printable

_STYLES: dict[DeviceState, str] = {
    "ready": "dim",
    "training": "yellow",
    "delivered": "green",
    "lost": "red",
    "rejected": "red",
    "failed": "red",
    "away": "dim red",
    "set aside": "red",
    "unfit": "red",
}
_LABELS = 3  # labels that the line of a serving device names
_NOTEWORTHY_DRIFT = 0.3  # from which on it is marked; samples like those of the self-test stay below
_TRUSTED_ANSWERS = 100  # answers from which on a drift says something
_OTHER_LINES = 14
"""Number of lines of the picture that are neither device nor depth rows."""


class View(Protocol):
    """The interface of a view that shows a run; a context manager."""

    progress: RunProgress

    def show(self, event: AnyEvent) -> None:
        """Applies one event and shows what it changed."""

    def note(self, text: str) -> None:
        """Shows a line that no event carries, until the next event has something to say."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_view(console: Console | None = None, *, subtitle: str = "") -> View:
    """Opens the live picture if the output is a terminal, plain lines otherwise.

    Args:
        console: Console to write to; standard output if None.
        subtitle: Text below the title of the live picture (broker, directory).
    """
    console = console or open_console()
    return LiveView(console, subtitle=subtitle) if console.is_terminal else PlainView(console)


class PlainView:
    """A view of one line per important event, for a log file or a pipe."""

    def __init__(self, console: Console) -> None:
        self.progress = RunProgress()
        self._console = console
        self._joined: dict[str, str] = {}

    def show(self, event: AnyEvent) -> None:
        """Prints the event's line, if it has one."""
        self.progress.apply(event)
        line = line_for(event, self.progress)
        if isinstance(event, DeviceJoined):
            # The event is repeated at every reconnect, and is printed only if the line has changed.
            if line == self._joined.get(event.device):
                return
            self._joined[event.device] = line or ""
        if line:
            self.note(line)

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class LiveView:
    """A view that redraws a picture a few times a second and leaves its last state on the screen."""

    def __init__(self, console: Console, *, subtitle: str = "", clock: Callable[[], float] = time.time) -> None:
        self.progress = RunProgress()
        self._subtitle = subtitle
        self._clock = clock
        self._lock = threading.Lock()  # rich draws from its own thread
        self._console = console
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=False)

    def show(self, event: AnyEvent) -> None:
        """Applies one event, which the next redraw shows."""
        with self._lock:
            self.progress.apply(event)

    def note(self, text: str) -> None:
        """Replaces the line below the tables."""
        with self._lock:
            self.progress.note = text

    def _draw(self) -> RenderableType:
        with self._lock:
            return picture(self.progress, self._clock(), self._console.height, self._subtitle)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()


def picture(progress: RunProgress, now: float, height: int, subtitle: str = "") -> RenderableType:
    """Draws the whole picture.

    Args:
        progress: State of the run.
        now: Time in seconds since the epoch, for the elapsed time of a running run.
        height: Lines of the screen; devices that do not fit are counted instead of shown.
        subtitle: Line below the title.
    """
    parts: list[RenderableType] = [_title(progress)]
    if subtitle:
        parts.append(Text(subtitle, style="dim"))
    parts += ["", _rounds(progress, now), ""]
    if progress.devices:
        parts += [_devices(progress, max(3, height - _OTHER_LINES - progress.depths)), ""]
    if (serving := serving_table(progress.devices.values())) is not None:
        parts += [serving, ""]
    if progress.values or progress.on_devices:
        parts += [_exits(progress), ""]
    parts.append(Text(progress.note))
    if progress.trouble:
        parts.append(Text(progress.trouble, style="red"))
    return Padding(Group(*parts), (1, 1, 0, 1), expand=False)


def _title(progress: RunProgress) -> Text:
    title = Text("FedLP Edge", style="bold cyan")
    if progress.run:
        title.append(f"  {progress.run}", style="default")
        about = f"  {progress.model}, {progress.parameters:,} parameters, {progress.depths} depths"
        title.append(about, style="not bold default")
    return title


def _rounds(progress: RunProgress, now: float) -> RenderableType:
    elapsed = (progress.latest if progress.is_over else now) - progress.started if progress.started else 0.0
    traffic = f"{format_bytes(progress.bytes_down)} down, {format_bytes(progress.bytes_up)} up"
    row = Table.grid(padding=(0, 2))
    row.add_row(
        f"round {progress.round}/{progress.rounds}",
        ProgressBar(total=max(1, progress.rounds), completed=min(progress.finished_rounds, progress.rounds), width=32),
        format_seconds(max(0.0, elapsed)),
        traffic,
    )
    return row


def _devices(progress: RunProgress, room: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("device", "profile", "depth", "LPR", "state", "loss", "sent", "samples"):
        table.add_column(name, justify="right" if name in ("LPR", "loss", "sent", "samples") else "left", no_wrap=True)
    devices = [progress.devices[name] for name in sorted(progress.devices)]
    for device in devices[:room]:
        table.add_row(*_device_row(device, progress.depths))
    if (more := len(devices) - room) > 0:
        table.add_row(Text(f"and {more} more", style="dim"))
    return table


def _device_row(device: DeviceProgress, depths: int) -> tuple[RenderableType, ...]:
    return (
        device.id,
        device.profile,
        Text(depth_bar(device.depth, depths), style="cyan") if device.depth else "-",
        f"{device.lpr:.2f}",
        Text(device.state, style=_STYLES[device.state]),
        "-" if device.loss is None else f"{device.loss:.3f}",
        format_bytes(device.bytes_up),
        f"{device.samples:,}",
    )


def _exits(progress: RunProgress) -> RenderableType:
    """Draws what the models of each depth are worth by the metric that the run is judged by."""
    metric = progress.metric
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(ANSWERING[progress.answer], no_wrap=True)
    if progress.values:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    if progress.on_devices:
        table.add_column("on devices", no_wrap=True)
    table.add_column("by round", no_wrap=True)
    trained = {device.depth for device in progress.devices.values()}
    if progress.answer == "mean":  # a device trains all exits up to its own
        trained = set(range(1, max(trained, default=0) + 1))
    drawn = {depth: _drawn(progress, depth) for depth in sorted(progress.values.keys() | progress.on_devices.keys())}
    top = 1.0 if is_share(metric) else max((value for values in drawn.values() for value in values), default=1.0)
    for depth, of_exit in drawn.items():
        values, scores = progress.values.get(depth, []), progress.on_devices.get(depth, [])
        table.add_row(
            Text(depth_bar(depth, progress.depths), style="cyan"),
            *([format_metric(metric, values[-1] if values else None)] if progress.values else []),
            *([format_scores(scores[-1], metric) if scores else "-"] if progress.on_devices else []),
            Text(sparkline(of_exit, top=top), style="green") if depth in trained else Text(UNTRAINED, style="dim"),
        )
    return table


def _drawn(progress: RunProgress, depth: int) -> list[float]:
    """Returns the values of an exit by round: those of central test data, or else those of the devices."""
    if values := progress.values.get(depth):
        return values
    scores = progress.on_devices.get(depth, [])
    name = main_metric(scores[-1].mean, progress.metric) if scores else ""
    return [one.mean[name] for one in scores if name in one.mean]


def serving_table(devices: Iterable[DeviceProgress]) -> Table | None:
    """Returns a row for each device whose model answers requests; None if there is no such device.

    Args:
        devices: State of the devices of a run.
    """
    serving = [(device.id, device.serving) for device in devices if device.serving is not None]
    if not serving:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("serving", "model", "answers", "refused", "50 %", "99 %", "drift", "labels"):
        left = name in ("serving", "model", "labels")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for device, report in sorted(serving, key=lambda entry: entry[0]):
        table.add_row(
            Text(device),
            Text(printable(report.file)),
            f"{report.answers:,}",
            f"{report.refused:,}",
            *(f"{report.milliseconds[share]:.1f} ms" if share in report.milliseconds else "-" for share in (50, 99)),
            _drift(report),
            Text(_labels(report)),
        )
    return table


def _drift(report: ServingReport) -> Text:
    if report.drift is None:
        return Text("-")
    moved = report.drift >= _NOTEWORTHY_DRIFT and report.answers >= _TRUSTED_ANSWERS
    return Text(f"{report.drift:.2f}", style="red" if moved else "")


def _labels(report: ServingReport) -> str:
    named = [f"{printable(label)} {count:,}" for label, count in list(report.labels.items())[:_LABELS]]
    more = len(report.labels) - _LABELS
    return ", ".join([*named, f"and {more} more"] if more > 0 else named)
