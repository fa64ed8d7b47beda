"""This module prints the report of a run, at its end or later from the run directory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.targets import default_metric
from fedlp_edge.reporting.console import open_console, print_unwrapped
from fedlp_edge.reporting.formatting import (
    ANSWERING,
    UNTRAINED,
    depth_bar,
    format_bytes,
    format_metric,
    format_scores,
    format_share,
    main_metric,
    metric_label,
)
from fedlp_edge.reporting.summary import (
    DeviceOutcome,
    DeviceRound,
    FileProof,
    RoundSummary,
    Summary,
    idle_rounds,
    load,
    trained_exits,
)
from fedlp_edge.system.lifecycle import own_command
from fedlp_edge.system.portable.shell_words import quoted
from fedlp_edge.system.printable import counted
from fedlp_edge.worker.jobs import ExportedModel

ONNX_DIRECTORY = "onnx"

MAX_LISTED_DEVICES = 40
"""Number of devices above which the report groups them by profile and depth."""

MAX_NAMED_DEVICES = 20
"""Number of failing devices that the report names."""


def print_report(directory: Path, console: Console | None = None) -> None:
    """Prints accuracy and files by depth, the devices' contributions, the traffic, and how to use the models.

    Args:
        directory: Run directory, whose ``summary.json`` is read.
        console: Console to write to; standard output if None.

    Raises:
        StorageError: The summary is missing, or not of this version.
    """
    print_unwrapped(console or open_console(), report(load(directory / "summary.json"), directory))


def report(summary: Summary, directory: Path) -> RenderableType:
    """Returns the report as a renderable of rich."""
    accuracy = summary.final.accuracy if summary.final else summary.rounds[-1].accuracy if summary.rounds else {}
    parts: list[RenderableType] = ["", _headline(summary), ""]
    if summary.start_weights is not None:
        parts += [Text(f"The model {summary.start_weights.line}."), ""]
    on_devices = _on_devices(summary)
    if accuracy or on_devices or _central_metrics(summary):
        parts += [_models(summary, accuracy, on_devices), ""]
    if judging := _judging(summary):
        parts += [*judging, ""]
    if (confused := _confused(summary)) is not None:
        parts += [confused, ""]
    if missing := _without_models(summary):
        parts += [*missing, ""]
    if summary.rounds:
        by_device: dict[str, list[DeviceRound]] = defaultdict(list)
        for entry in summary.rounds:
            for device in entry.devices:
                by_device[device.id].append(device)
        table = _crowd if len(by_device) > MAX_LISTED_DEVICES else _devices
        parts += [table(by_device, max(accuracy.keys() | on_devices.keys(), default=0)), "", _traffic(summary), ""]
        if warning := summary.rounds[-1].warning:
            parts += [Text(f"Doubtful: {warning}.", style="yellow"), ""]
        if idle := idle_rounds(summary):
            parts += [_idle(idle, len(summary.rounds)), ""]
    if trouble := problem_lines(summary):
        parts += [Text("\n".join(trouble), style="red"), ""]
    parts.append(_places(summary, directory))
    return Group(*parts)


def problem_lines(summary: Summary) -> list[str]:
    """Returns one line for each device that people should check, and one that counts the rest."""
    devices = [device for device in summary.devices if device.needs_attention]
    lines = [_trouble(device, len(summary.rounds)) for device in devices[:MAX_NAMED_DEVICES]]
    return (
        [*lines, f"and {len(devices) - MAX_NAMED_DEVICES} devices more: see summary.json"]
        if len(devices) > MAX_NAMED_DEVICES
        else lines
    )


def _trouble(device: DeviceOutcome, rounds: int) -> str:
    state = f", is {device.state}" if device.state != "fit" else ""
    failed = f", failed in {device.failed}" if device.failed else ""
    why = f": {device.reason}" if device.reason else ""
    return f"{device.id} contributed to {device.contributed} of {rounds} rounds{failed}{state}{why}"


def _headline(summary: Summary) -> Text:
    text = Text(f"Run {summary.run}", style="bold cyan")
    state = "finished" if summary.final else "not finished"
    seconds = sum(entry.seconds for entry in summary.rounds)
    text.append(
        f"  {summary.model}, {len(summary.rounds)} rounds in {seconds:.1f} s, {state}", style="not bold default"
    )
    return text


def _on_devices(summary: Summary) -> dict[int, DeviceScores]:
    """What devices measured of the final model, or of the last one that they have got."""
    if summary.final and summary.final.on_devices:
        return summary.final.on_devices
    return summary.rounds[-1].on_devices if summary.rounds else {}


def _judging(summary: Summary) -> list[RenderableType]:
    """Lines on who judged the models, and which files are not proved."""
    final = summary.final is not None and bool(summary.final.on_devices)
    scores = _on_devices(summary)
    silent = summary.final.not_reporting if final and summary.final else 0
    if not final and summary.rounds:
        silent = summary.rounds[-1].not_reporting
    lines = []
    if scores:
        model = "the final model" if final else "the model before the last round"
        devices, samples = sum(s.devices for s in scores.values()), sum(s.samples for s in scores.values())
        rest = f", {silent} did not report" if silent else ""
        lines.append(f"On devices: {devices} judged {model} on {counted(samples, 'sample')} that they hold out{rest}.")
    for proof in summary.proofs:
        for device, problem in list(proof.problems.items())[:MAX_NAMED_DEVICES]:
            lines.append(f"Not proved: the file of depth {proof.depth} on {device}: {problem}")
    return [Text("\n".join(lines))] if lines else []


@dataclass(frozen=True)
class _Column:
    """A column of the table of models.

    Attributes:
        heading: Heading; ``>`` at its end aligns the column to the right.
        cell: Function that returns the text of a depth.
    """

    heading: str
    cell: Callable[[int], str]


def _models(summary: Summary, accuracy: dict[int, float], on_devices: dict[int, DeviceScores]) -> RenderableType:
    """Returns the table of what models are worth by depth: on central data, on devices, and in their ONNX files."""
    judged = _judged_round(summary)
    exported = {model.depth: model for model in summary.onnx}
    columns = _central_columns(summary, accuracy)
    if on_devices:
        columns.append(_Column("on devices", lambda depth: _scores(on_devices.get(depth), summary.metric)))
    columns += _file_columns(summary, exported)
    trained = trained_exits(summary)
    tiers = judged.tiers if judged and summary.task == "classification" else {}
    central = accuracy.keys() | _central_metrics(summary).keys() | tiers.keys()
    depths = sorted(central | on_devices.keys() | exported.keys())
    last = "ONNX file" if exported else ""
    table = _table(ANSWERING[judged.answer if judged else "exit"], *(column.heading for column in columns), last)
    for depth in depths:
        file = f"{ONNX_DIRECTORY}/{exported[depth].file}" if depth in exported else "-" if exported else ""
        table.add_row(
            Text(f"{depth_bar(depth, depths[-1])} {depth}", style="cyan"),
            *(column.cell(depth) for column in columns),
            Text(file if depth in trained else UNTRAINED, style="" if depth in trained else "dim"),
        )
    return table


def _central_columns(summary: Summary, accuracy: dict[int, float]) -> list[_Column]:
    """Returns what central data say, of the accuracy, of the metric that stands for a run, and of other answers."""
    columns = []
    if accuracy:
        columns.append(_Column("PyTorch>", lambda depth: format_share(accuracy.get(depth))))
    # Beside the accuracy stands the metric that the run is judged by, or that stands for a task without an accuracy.
    metrics = _central_metrics(summary)
    metric = main_metric(next(iter(metrics.values())), summary.metric) if metrics else ""
    if metric and not (accuracy and metric == "accuracy"):
        values = {depth: found[metric] for depth, found in metrics.items() if metric in found}
        columns.append(_by_depth(metric_label(metric), metric, values))
    judged = _judged_round(summary)
    if judged is None:
        return columns
    of_task = default_metric(summary.task)
    # Beside what models answer with stands the other: each exit alone, or the mean of the exits up to it.
    heading, other = ("exit alone", judged.exits) if judged.answer == "mean" else ("ensemble", judged.ensemble)
    if other:
        columns.append(_by_depth(heading, of_task, other))
    if judged.tiers and summary.task == "classification":  # without classes every device has the same test set
        columns.append(_by_depth("own classes", of_task, judged.tiers))
    return columns


def _by_depth(heading: str, metric: str, values: Mapping[int, float]) -> _Column:
    """Returns the column of a metric."""
    return _Column(f"{heading}>", lambda depth: format_metric(metric, values.get(depth)))


def _file_columns(summary: Summary, exported: Mapping[int, ExportedModel]) -> list[_Column]:
    """Returns what was found out about the ONNX files."""
    proofs = {proof.depth: proof for proof in summary.proofs}
    columns = []
    if any(model.accuracy is not None for model in exported.values()):
        accuracy = {depth: model.accuracy for depth, model in exported.items()}
        columns.append(_Column("onnxruntime>", lambda depth: format_share(accuracy.get(depth))))
    if exported:
        columns.append(_Column("max |difference|>", lambda depth: _difference(exported.get(depth), proofs.get(depth))))
    if proofs:
        columns.append(_Column("proved on>", lambda depth: _proved(proofs.get(depth))))
    return columns


def _central_metrics(summary: Summary) -> dict[int, dict[str, float]]:
    """What central data say of the final model, by depth and name; nothing without such data."""
    judged = _judged_round(summary)
    return judged.metrics if judged else {}


def _judged_round(summary: Summary) -> RoundSummary | None:
    """The round that made the model of the report, which is the final one if there is one; None before the first."""
    number = summary.final.round if summary.final else None
    chosen = [entry for entry in summary.rounds if entry.round == number] or list(summary.rounds[-1:])
    return chosen[0] if chosen else None


def _scores(scores: DeviceScores | None, metric: str) -> str:
    return "-" if scores is None else format_scores(scores, metric)


def _confused(summary: Summary) -> Text | None:
    """A line on the classes that the final model confuses most."""
    answers = summary.final.answers if summary.final else None
    pairs = answers.most_confused() if answers is not None else []
    if answers is None or not pairs:
        return None
    told = [f"{true} taken for {predicted} ({count} of {of_class:,})" for true, predicted, count, of_class in pairs]
    return Text(f"Most often confused at depth {answers.depth}: {'; '.join(told)}.")


def _difference(model: ExportedModel | None, proof: FileProof | None) -> str:
    """The largest difference from PyTorch that the coordinator or a device found."""
    found = [entry.max_abs_diff for entry in (model, proof) if entry is not None]
    return f"{max(found):.1e}" if found else "-"


def _proved(proof: FileProof | None) -> str:
    return "-" if proof is None else f"{proof.proved} of {counted(proof.asked, 'device')}"


def _devices(by_device: dict[str, list[DeviceRound]], depths: int) -> RenderableType:
    encoded = any(device.encoding != "none" for entries in by_device.values() for device in entries)
    columns = ("device", "profile", "depth", "LPR>", "updates>", "samples>", "received>", "sent>")
    table = _table(*columns, *(["as"] if encoded else []))
    for name, entries in sorted(by_device.items()):
        last = entries[-1]
        contributed = [entry for entry in entries if entry.status == "contributed"]
        table.add_row(
            name,
            last.profile,
            Text(f"{depth_bar(last.depth, depths)} {last.depth}", style="cyan"),
            f"{last.lpr:.2f}",
            f"{len(contributed)}/{len(entries)}",
            f"{max((entry.samples for entry in entries), default=0):,}",
            format_bytes(sum(entry.bytes_down for entry in entries)),
            format_bytes(sum(entry.bytes_up for entry in entries)),
            *([last.encoding] if encoded else []),
        )
    return table


def _crowd(by_device: dict[str, list[DeviceRound]], depths: int) -> RenderableType:
    """Returns the table of devices with one line per profile and depth."""
    groups: dict[tuple[str, int], list[list[DeviceRound]]] = defaultdict(list)
    for entries in by_device.values():
        groups[entries[-1].profile, entries[-1].depth].append(entries)
    table = _table("profile", "depth", "devices>", "updates>", "samples>", "received>", "sent>")
    for (profile, depth), devices in sorted(groups.items(), key=lambda group: (-group[0][1], group[0][0])):
        entries = [entry for device in devices for entry in device]
        table.add_row(
            profile,
            Text(f"{depth_bar(depth, depths)} {depth}", style="cyan"),
            str(len(devices)),
            f"{sum(entry.status == 'contributed' for entry in entries)}/{len(entries)}",
            f"{sum(max(entry.samples for entry in device) for device in devices):,}",
            format_bytes(sum(entry.bytes_down for entry in entries)),
            format_bytes(sum(entry.bytes_up for entry in entries)),
        )
    return table


def _without_models(summary: Summary) -> list[Text]:
    """Returns the depths without an ONNX file and the devices without a final model, with the reasons."""
    lines = [Text(f"Depth {entry.depth} has no ONNX file: {entry.reason}", style="red") for entry in summary.refused]
    reasons = {device: why for device, why in summary.delivered.items() if why not in ("installed", "received")}
    return [*lines, *(Text(f"{device} has no final model: {why}", style="red") for device, why in reasons.items())]


def _idle(idle: dict[str, int], rounds: int) -> Text:
    """Returns which units no device sent, and in how many rounds."""
    units: dict[int, list[str]] = defaultdict(list)
    for unit, count in idle.items():
        units[count].append(unit)
    said = [
        f"{', '.join(named)} in {'every round' if count == rounds else f'{count} of {rounds}'}"
        for count, named in sorted(units.items(), reverse=True)
    ]
    words = f"Without an update: {'; '.join(said)}."
    if any(unit.startswith("H") for unit in units[rounds]):
        words += " An exit is learned only where a device has its depth."
    return Text(words)


def _traffic(summary: Summary) -> Text:
    entries = [device for entry in summary.rounds for device in entry.devices]
    contributed = [device for device in entries if device.status == "contributed"]
    down, up = _total(d.bytes_down for d in entries), _total(d.bytes_up for d in entries)
    text = Text(f"On the wire: {format_bytes(down)} down, {format_bytes(up)} up.")
    if by_purpose := _by_purpose(summary):
        text.append(f" At the coordinator: {by_purpose}.")
    if contributed:
        kparams = sum(d.params_down + d.params_up for d in contributed) / len(contributed) / 1e3
        text.append(f" As the paper counts: {kparams:,.1f} k parameters per client and round.")
    return text


def _by_purpose(summary: Summary) -> str:
    """Returns the coordinator's traffic by purpose; empty for a run that did not count it."""
    totals: dict[str, int] = defaultdict(int)
    for by_purpose in (*(entry.traffic for entry in summary.rounds), summary.traffic):
        for purpose, traffic in by_purpose.items():
            totals[purpose] += traffic.bytes
    return ", ".join(f"{purpose} {format_bytes(nbytes)}" for purpose, nbytes in totals.items())


def _places(summary: Summary, directory: Path) -> RenderableType:
    lines = [Text.assemble("Everything is in ", (str(directory), "bold"))]
    if pictures := [path.name for path in sorted(directory.glob("*.png"))]:
        lines.append(Text(f"Pictures there:  {', '.join(pictures)}"))
    if summary.onnx:
        best = max(summary.onnx, key=lambda model: model.depth)
        command = f"{own_command()} infer {quoted(str(directory / ONNX_DIRECTORY / best.file))} {best.takes}"
        # The command is meant to be copied, so it is never broken across lines.
        lines.append(Text.assemble("Use a model:     ", (command, "bold"), no_wrap=True, overflow="ignore"))
    elif summary.final and (summary.final.accuracy or summary.final.metrics or summary.final.on_devices):
        out = quoted(str(directory / ONNX_DIRECTORY))
        command = f"{own_command()} export {quoted(str(directory))} --out {out}"
        lines.append(Text.assemble("Make ONNX files: ", (command, "bold"), no_wrap=True, overflow="ignore"))
    return Group(*lines)


def _table(*columns: str) -> Table:
    """Makes a table with these columns; ``>`` at the end of a name aligns to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left", no_wrap=True)
    return table


def _total(counts: Iterable[int]) -> int:
    return sum(counts)
