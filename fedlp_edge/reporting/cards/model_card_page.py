"""This module writes the card of exported models: as data for programs, as a page for people, and as a picture."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.core.model_card import CARD_FILE, CardEntry, ModelCard, encode_card
from fedlp_edge.errors import ExportError
from fedlp_edge.reporting.cards.model_card_plot import draw_card
from fedlp_edge.reporting.formatting import format_bytes, format_metric, format_share, metric_label
from fedlp_edge.system.files import replacing

PAGE_FILE = "card.md"
"""Name of the page for people."""

PICTURE_FILE = "card.png"
"""Name of the picture."""

_NAMED_CLASSES = 20


def write_card(card: ModelCard, directory: Path) -> None:
    """Writes ``card.json``, ``card.md`` and, where there are costs and matplotlib is installed, ``card.png``.

    Raises:
        ExportError: A file cannot be written.
    """
    drawn = False
    try:
        if any(entry.cost is not None for entry in card.files):
            try:
                draw_card(card, directory / PICTURE_FILE)
                drawn = True
            except ImportError:  # matplotlib is an extra
                pass
        if not drawn:
            (directory / PICTURE_FILE).unlink(missing_ok=True)  # that of an earlier export
        for name, content in ((PAGE_FILE, card_page(card, drawn=drawn).encode()), (CARD_FILE, encode_card(card))):
            with replacing(directory / name, durable=False) as partial:
                partial.write_bytes(content)
    except OSError as error:
        raise ExportError(f"cannot write the card to {directory}: {error.strerror or error}") from None


def card_page(card: ModelCard, *, drawn: bool) -> str:
    """Returns the card as a page in Markdown.

    Args:
        card: Description of the files.
        drawn: Whether there is a picture beside the page.
    """
    lines = [f"# {card.model}", ""]
    shape = " x ".join(map(str, card.input_shape))
    takes = "pictures as uint8, normalised in the graph" if card.input_type == "uint8" else "normalised float32"
    facts = [
        ("task", card.task),
        ("input", f"[batch, {shape}], {takes}"),
        ("classes", _named(card.classes)),
        ("files answer with", "the mean of the exits up to their depth" if card.answer == "mean" else ""),
        ("licence", card.license or "not stated"),
        ("trained by", f"fleet {card.fleet}, run {card.run}, round {card.round}"),
        ("digest of the global model", f"`{card.model_digest}`" if card.model_digest else ""),
        ("measured on", f"{card.samples} held-out samples" if card.samples else "made inputs, so no file has a value"),
        ("ranges of int8 files", card.calibration),
        ("ONNX opset", str(card.opset)),
        ("cost measured on", _machine(card)),
    ]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts if value), ""]
    metric = metric_label(card.metric) if card.metric else "value"
    lines += [
        f"| file | depth | precision | {metric} | size | mean | 50 % | 90 % | 99 % | memory | same answer as PyTorch |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(entry, card.metric) for entry in card.files),
        "",
    ]
    if drawn:
        lines += [f"![{metric} against time, size and memory]({PICTURE_FILE})", ""]
    exits = [entry for entry in card.files if entry.exits]
    for entry in exits:
        shares = "" if entry.cost is None else _stops(entry.cost.exits)
        lines += [f"`{entry.file}` stops at the first exit that is {format_share(entry.threshold)} sure{shares}.", ""]
    notes = [f"- `{entry.file}`: {entry.warning}" for entry in card.files if entry.warning]
    notes += [
        f"- no {'early-exit ' if refused.early_exit else ''}file of depth {refused.depth} in {refused.precision}: "
        f"{refused.reason}"
        for refused in card.refused
    ]
    if notes:
        lines += ["## Mind", "", *notes, ""]
    tested = [entry for entry in card.files if entry.self_test]
    if tested:
        lines += ["Samples with the answers that a file must give on the device:", ""]
        lines += [*(f"- `{entry.self_test}` for `{entry.file}`" for entry in tested), ""]
    lines += ["Times and memory are those of one sample at a time. SHA-256 of each file:", "", "```"]
    lines += [f"{entry.sha256}  {entry.file}" for entry in card.files]
    return "\n".join([*lines, "```", ""])


def _row(entry: CardEntry, metric: str) -> str:
    depth = f"exits {', '.join(map(str, entry.exits))}" if entry.exits else str(entry.depth)
    value = "-" if entry.value is None else format_metric(metric, entry.value)
    cells = [f"`{entry.file}`", depth, entry.precision, value, format_bytes(entry.bytes)]
    if entry.cost is None:
        cells += ["-"] * 5
    else:
        cells.append(f"{entry.cost.mean_milliseconds:.3g} ms")
        cells += [f"{time:.3g} ms" for _, time in sorted(entry.cost.milliseconds.items())]
        cells.append(format_bytes(entry.cost.memory))
    return f"| {' | '.join([*cells, format_share(entry.agreement)])} |"


def _stops(exits: dict[int, float]) -> str:
    if not exits:
        return ""
    return ": " + ", ".join(f"{format_share(share)} of the samples at depth {depth}" for depth, share in exits.items())


def _machine(card: ModelCard) -> str:
    if not card.processor:
        return ""
    return f"{card.processor}, {_threads(card.threads)}"


def _threads(number: int) -> str:
    if not number:
        return "a thread per core"
    return "one thread" if number == 1 else f"{number} threads"


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(name.replace("|", "\\|") for name in names[:_NAMED_CLASSES])
    return shown if len(names) <= _NAMED_CLASSES else f"{shown} and {len(names) - _NAMED_CLASSES} more"
