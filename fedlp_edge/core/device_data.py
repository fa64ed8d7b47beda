"""Describes the samples of a device or coordinator, and checks whether a model can take them.

The check comes before the first round, since a shape or a class that does not fit would fail in every round.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from fedlp_edge.core.standardisation.column_sums import MAX_COLUMNS, ColumnSums
from fedlp_edge.core.targets import TargetKind

MAX_CLASSES = 4096
"""Most class names in a report; of longer lists only the digest is compared."""

MAX_NAME = 200
"""Most characters of a class name that are reported and compared."""

MAX_CHANNELS = 4096
"""Most channels whose statistics are reported."""

Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
Deviation = Annotated[float, msgspec.Meta(gt=0, le=1e30)]

_SHOWN = 8
"""Most names in a message for people."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
ClassName = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


def picture_normalisation(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation by which pictures of some number of channels are normalised.

    For three channels these are ImageNet's, with which torchvision's models were trained.
    """
    return ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((0.5,), (0.5,))


class InputFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the inputs of a model look like, without any of them.

    A model's input is ``(stored value * scale - mean) / std``. A coordinator without data puts this into ONNX files,
    and checks the files on random inputs with the mean and the deviation of each channel.

    Attributes:
        scale: Factor from stored values to the unit of ``mean`` and ``std``.
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        channel_mean: Mean of the model's inputs by channel, over some samples; empty if it is not told.
        channel_std: Standard deviation of the model's inputs by channel; empty if it is not told.
    """

    scale: Finite = 1.0
    mean: Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1, max_length=MAX_CHANNELS)] = (0.0,)
    std: Annotated[tuple[Deviation, ...], msgspec.Meta(min_length=1, max_length=MAX_CHANNELS)] = (1.0,)
    channel_mean: Annotated[tuple[Finite, ...], msgspec.Meta(max_length=MAX_CHANNELS)] = ()
    channel_std: Annotated[tuple[NotNegative, ...], msgspec.Meta(max_length=MAX_CHANNELS)] = ()

    def of_channels(self, channels: int) -> InputFacts:
        """Returns what holds for a model with some number of channels.

        Pictures are described before the model is known, with three channels. A device whose model takes another number
        reads and normalises them anew, so nothing of that description but the scale holds.
        """
        if {len(self.mean), len(self.std)} <= {1, channels}:
            return self
        mean, std = picture_normalisation(channels)
        return InputFacts(scale=self.scale, mean=mean, std=std)

    @property
    def without_channels(self) -> InputFacts:
        """The normalisation alone, which a device's samples do not influence."""
        return msgspec.structs.replace(self, channel_mean=(), channel_std=())


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A description of samples that tells nothing about a single sample.

    Attributes:
        sample_shape: Shape of one sample; empty for pictures, which are resized to the input of the model.
        classes: Class names by the device's own class numbers, in Unicode normal form C, whatever form the report has;
            empty without names, or with too many of them.
        classes_digest: SHA-256 of all class names, as hexadecimal digits; empty without names.
        absent: The device's own numbers of classes that have a name and no sample.
        labels: Number of distinct labels.
        highest: Greatest label.
        target_kind: What the targets are, as far as the device can tell.
        features: Statistics of the features; None if samples have no features with names.
        targets: Statistics of the targets, if they are numbers or could be; None otherwise.
        inputs: What the inputs of a model look like; None from whoever does not tell.
    """

    sample_shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=2**31)], ...], msgspec.Meta(max_length=8)] = ()
    classes: Annotated[tuple[ClassName, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    classes_digest: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    absent: Annotated[tuple[Number, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    labels: Number = 0
    highest: Number = 0
    target_kind: TargetKind = "class"
    features: ColumnSums | None = None
    targets: ColumnSums | None = None
    inputs: InputFacts | None = None

    def __post_init__(self) -> None:
        names = tuple(unicodedata.normalize("NFC", name) for name in self.classes)
        if names != self.classes:
            msgspec.structs.force_setattr(self, "classes", names)

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that have samples."""
        absent = set(self.absent)
        return tuple(name for number, name in enumerate(self.classes) if number not in absent)


def agreed_inputs(reports: Iterable[DataFacts]) -> InputFacts:
    """Returns what the inputs of a fleet look like: the normalisation of most sites, and means over their channels.

    Args:
        reports: What the sites say of their samples.
    """
    told = [data.inputs for data in reports if data.inputs is not None]
    if not told:
        return InputFacts()
    votes = Counter(inputs.without_channels for inputs in told)
    agreed = max(votes, key=lambda inputs: (votes[inputs], msgspec.json.encode(inputs)))
    known = [inputs for inputs in told if inputs.without_channels == agreed and inputs.channel_mean]
    lengths = Counter(
        len(inputs.channel_mean) for inputs in known if len(inputs.channel_std) == len(inputs.channel_mean)
    )
    if not lengths:
        return agreed
    channels = max(lengths, key=lambda length: (lengths[length], length))
    of_sites = [inputs for inputs in known if len(inputs.channel_mean) == len(inputs.channel_std) == channels]
    return msgspec.structs.replace(
        agreed,
        channel_mean=_means(inputs.channel_mean for inputs in of_sites),
        channel_std=_means(inputs.channel_std for inputs in of_sites),
    )


def unlike_scale(own: DataFacts, others: Iterable[DataFacts]) -> str:
    """Returns what to say of samples whose stored values are scaled otherwise than on most other sites; or nothing.

    Pixels that one site saves as bytes and another as fractions reach the model as different numbers. Columns with
    names are not looked at: the fleet agrees on their scale.

    Args:
        own: What the site says of its samples.
        others: What the other sites say of theirs.
    """
    if own.inputs is None or own.features is not None:
        return ""
    scales = Counter(data.inputs.scale for data in others if data.inputs is not None and data.features is None)
    if not scales:
        return ""
    usual = max(scales, key=lambda scale: (scales[scale], -scale))
    if own.inputs.scale == usual or 2 * scales[usual] <= scales.total():
        return ""
    return (
        f"values are multiplied by {own.inputs.scale:.3g} here and by {usual:.3g} elsewhere: bytes count as pixels, "
        "other numbers as they are; save the same type on all devices"
    )


def _means(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Returns the mean of each column."""
    return tuple(math.fsum(column) / len(column) for column in zip(*rows, strict=True))


def names_digest(names: Sequence[str]) -> str:
    """Returns the SHA-256 of class names in their order; an empty string without names."""
    return hashlib.sha256(msgspec.json.encode(list(names))).hexdigest() if names else ""


def mismatch(
    data: DataFacts,
    input_shape: tuple[int, ...],
    classes: int,
    names: tuple[str, ...] = (),
    wanted: TargetKind | None = "class",
    *,
    own_task: bool = False,
) -> str | None:
    """Returns the reason, for people, why a model cannot take some samples; None if it can.

    Args:
        data: Description of the samples.
        input_shape: Shape of one input of the model.
        classes: Number of outputs of the model; one output tells two classes apart.
        names: Names of the fleet's classes, labels or targets by number; empty if they have no names.
        wanted: Kind of the targets that the task learns; None if it is not known.
        own_task: Whether the task is the user's own, of which nobody else knows how many targets go with its outputs.
    """
    if data.sample_shape and data.sample_shape != input_shape:
        have, want = ("x".join(map(str, shape)) for shape in (data.sample_shape, input_shape))
        advice = _other_layout(data.sample_shape, input_shape) or "change [model] input or the data"
        return f"the samples have shape {have} but the model takes {want}: {advice}"
    if own_task:
        return None
    if wanted in ("labels", "values"):
        return _column_mismatch(data, classes, names, wanted)
    if wanted != "class" or data.target_kind != "class":
        return None
    return _class_mismatch(data, max(2, classes), names)


_VOID = 255
"""Label of what has no class, by a custom of data sets whose labels are bytes."""


def _class_mismatch(data: DataFacts, classes: int, names: tuple[str, ...]) -> str | None:
    """Returns the reason why a model cannot tell the classes of some samples apart; None if it can."""
    if names and data.classes:
        fleet = frozenset(names)
        unknown = [name for name in data.present if name not in fleet]
        if unknown:
            return (
                f"the fleet has no class {listed(unknown)}; it learns {listed(names)}: "
                "rename the class, leave its samples out, or let [model] classes and class_names name it"
            )
        return None
    if names and data.classes_digest and data.classes_digest != names_digest(names):
        return "the names of the classes are not those of the fleet: give every device the same classes.txt"
    if data.highest < classes:
        return None
    if data.classes and data.classes != tuple(map(str, range(len(data.classes)))):
        return (
            f"the samples are of {len(data.classes)} classes ({listed(data.classes)}) but the model has {classes}: set "
            "[model] classes, or leave samples out"
        )
    hint = "set [model] classes, or leave samples out"
    if data.highest == classes:
        hint += "; if they count from 1, subtract 1"
    elif data.highest == _VOID:
        hint = f"if {_VOID} marks samples without a class, leave these out"
    return f"the labels go up to {data.highest} but the model has {classes} classes (0 to {classes - 1}): {hint}"


def _column_mismatch(data: DataFacts, outputs: int, names: tuple[str, ...], wanted: TargetKind) -> str | None:
    """Returns the reason why a model cannot learn the labels or targets of some samples; None if it can."""
    what = "labels" if wanted == "labels" else "targets"
    columns = 0 if data.targets is None else len(data.targets.mean)
    if outputs > MAX_COLUMNS and wanted == "values":
        return (
            f"the model has {outputs:,} outputs, and a regression has {MAX_COLUMNS:,} targets at most: learn maps by a "
            "task of your own (docs/tasks.md)"
        )
    if columns and columns != outputs and wanted in {data.target_kind, "values"}:
        return f"the samples have {columns} {what} but the model has {outputs} outputs: set [model] classes = {columns}"
    own = frozenset(data.classes) if data.target_kind == wanted else frozenset[str]()
    if names and own and (lacking_names := [name for name in names if name not in own]):
        return f"the samples have no {what} {listed(lacking_names)}; the fleet learns {listed(names)}"
    return None


def target_mismatch(data: DataFacts, wanted: TargetKind | None) -> str | None:
    """Returns the reason, for people, why a task cannot learn the targets of some samples; None if it can.

    Args:
        data: Description of the samples.
        wanted: Kind of the targets that the task learns; None if it is not known.
    """
    if wanted == "class" and data.target_kind in ("labels", "values"):
        have = "measurements" if data.target_kind == "values" else "several labels of 0 or 1"
        return f"the targets are {have}, and the fleet learns one class a sample: give class numbers from 0, or names"
    if wanted == "labels" and data.target_kind == "values":
        return "the targets are measurements, and the fleet learns labels of 0 or 1"
    if wanted == "values" and data.target_kind == "class" and not all(map(_is_number, data.classes)):
        return f"the targets are classes ({listed(data.classes)}), and the fleet learns numbers: name other targets"
    return None


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def feature_mismatch(data: DataFacts, names: tuple[str, ...]) -> str | None:
    """Returns the reason, for people, why the features of some samples are not those of the fleet; None if they are.

    Args:
        data: Description of the samples.
        names: Names of the fleet's features; empty if they are not agreed or have no names.
    """
    if data.features is None or not names:
        return None
    own_names = data.features.names
    have, fleet = frozenset(own_names), frozenset(names)  # tables may have many thousand columns
    if lacks := [name for name in names if name not in have]:
        folded = {name.casefold(): name for name in own_names if name not in fleet}
        alike = {name: folded[name.casefold()] for name in lacks if name.casefold() in folded}
        if len(alike) == len(lacks):
            own = ", ".join(f'"{alike[name][:40]}" is "{name[:40]}"' for name in lacks[:_SHOWN])
            return f"the fleet writes the features in other capitals: {own} there; rename the columns"
        return f"the fleet has features that the samples lack: {listed(lacks)}; rename the columns, or list features="
    if more := [name for name in own_names if name not in fleet]:
        return f"the samples have features that the fleet lacks: {listed(more)}; list the fleet's with features="
    return None


def _other_layout(samples: tuple[int, ...], model: tuple[int, ...]) -> str | None:
    """Returns advice if two shapes differ only in the order or presence of the channel dimension; otherwise None."""
    if len(model) == 3 and samples == (*model[1:], model[0]):
        return "channels come first here; give it x.transpose(0, 3, 1, 2)"
    if model[:1] == (1,) and samples == model[1:]:
        return "the one channel counts as a dimension here; give it x[:, None], or a table shape="
    return None


def missing_classes(data: DataFacts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the fleet's classes without a sample here; none if the samples have no class names."""
    present = frozenset(data.present)
    return tuple(name for name in names if name not in present) if data.classes else ()


def has_numbers_for_names(data: DataFacts, names: tuple[str, ...]) -> bool:
    """Tells whether samples have class numbers alone in a fleet whose classes have names, so that no name was compared.

    Args:
        data: Description of the samples.
        names: Names of the fleet's classes by number; empty if they have none.
    """
    named = data.classes or data.classes_digest
    return bool(names) and data.target_kind == "class" and data.labels > 0 and not named


def listed(names: Sequence[str]) -> str:
    """Lists names for people, quoted, and shortened if there are many."""
    shown = ", ".join(f'"{name[:40]}"' for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
