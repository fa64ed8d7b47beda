"""This module chooses among exported files for a device class, by measuring them on this machine."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.core.metric_names import BETTER
from fedlp_edge.core.model_card import CARD_FILE, CardEntry, MeasuredCost, ModelCard, decode_card
from fedlp_edge.core.planning.model_choice import MeasuredFile, ModelChoice, choose_model
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.latency import Latency
from fedlp_edge.probe.profiles import DeviceProfile


def choose_from_card(card: ModelCard, profile: DeviceProfile) -> ModelChoice | None:
    """Chooses among files whose cost stands in their description.

    Args:
        card: Description of the files.
        profile: Profile of the device class.
    """
    files = [_described(entry, entry.cost) for entry in card.files]
    return choose_model(files, profile.answer_limits, higher=_higher(card))


def choose_measured(measured: dict[Path, Latency], profile: DeviceProfile) -> ModelChoice | None:
    """Chooses among files that were measured.

    Args:
        measured: What each file costs on this machine.
        profile: Profile of the device class.
    """
    cards = {path.parent: _card(path.parent) for path in measured}
    files = [_measured(path, cards[path.parent], latency) for path, latency in measured.items()]
    known = [card for card in cards.values() if card is not None]
    return choose_model(files, profile.answer_limits, higher=not known or _higher(known[0]))


def choice_line(choice: ModelChoice | None, profile: DeviceProfile) -> str:
    """Returns the line that says what is chosen, and why."""
    if choice is None:
        return f"for {profile.name}: no file runs here"
    return f"for {profile.name}: {choice.file}, {choice.reason}"


def _higher(card: ModelCard) -> bool:
    return BETTER.get(card.metric, "higher") == "higher"


def _described(entry: CardEntry, cost: MeasuredCost | None) -> MeasuredFile:
    return MeasuredFile(
        file=entry.file,
        depth=entry.depth,
        precision=entry.precision,
        value=entry.value,
        warning=entry.warning,
        cost=cost,
    )


def _card(directory: Path) -> ModelCard | None:
    path = directory / CARD_FILE
    return decode_card(path.read_bytes(), str(path)) if path.is_file() else None


def _measured(path: Path, card: ModelCard | None, latency: Latency) -> MeasuredFile:
    """Returns what a directory's description says of a file, or without it the file itself, with what it costs."""
    cost = _cost(latency)
    for entry in () if card is None else card.files:
        if entry.file == path.name:
            return _described(entry, cost)
    return MeasuredFile(
        file=path.name,
        depth=Classifier(path, threads=1).onnx_metadata.depth,
        precision=next((name for name in ("int8", "fp16") if path.stem.endswith(f"-{name}")), "fp32"),
        cost=cost,
    )


def _cost(latency: Latency) -> MeasuredCost:
    return MeasuredCost(
        milliseconds=latency.milliseconds,
        mean_milliseconds=latency.mean_milliseconds,
        memory=latency.memory,
        exits=latency.exits,
    )
