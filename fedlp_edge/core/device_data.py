"""Describes the samples of a device or coordinator, and checks whether a model can take them.

The check comes before the first round, since a shape or a class that does not fit would fail in every round.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Annotated

import msgspec

from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.targets import TargetKind

MAX_CLASSES = 4096
"""Most class names in a report; of longer lists only the digest is compared."""

MAX_NAME = 200
"""Most characters of a class name that are reported and compared."""

_SHOWN = 8
"""Most names in a message for people."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
ClassName = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


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
    """

    sample_shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=2**31)], ...], msgspec.Meta(max_length=8)] = ()
    classes: Annotated[tuple[ClassName, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    classes_digest: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    absent: Annotated[tuple[Number, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    labels: Number = 0
    highest: Number = 0
    target_kind: TargetKind = "class"
    features: ColumnSums | None = None

    def __post_init__(self) -> None:
        names = tuple(unicodedata.normalize("NFC", name) for name in self.classes)
        if names != self.classes:
            msgspec.structs.force_setattr(self, "classes", names)

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that have samples."""
        absent = set(self.absent)
        return tuple(name for number, name in enumerate(self.classes) if number not in absent)


def names_digest(names: Sequence[str]) -> str:
    """Returns the SHA-256 of class names in their order; an empty string without names."""
    return hashlib.sha256(msgspec.json.encode(list(names))).hexdigest() if names else ""


def mismatch(data: DataFacts, input_shape: tuple[int, ...], classes: int, names: tuple[str, ...] = ()) -> str | None:
    """Returns the reason, for people, why a model cannot take some samples; None if it can.

    Args:
        data: Description of the samples.
        input_shape: Shape of one input of the model.
        classes: Number of classes of the model.
        names: Names of the fleet's classes by number; empty if they have no names.
    """
    if data.sample_shape and data.sample_shape != input_shape:
        have, want = ("x".join(map(str, shape)) for shape in (data.sample_shape, input_shape))
        advice = _other_layout(data.sample_shape, input_shape) or "change [model] input or the data"
        return f"the samples are {have} but the model takes {want}: {advice}"
    if names and data.classes:
        unknown = [name for name in data.present if name not in set(names)]
        if unknown:
            return (
                f"the fleet has no class {listed(unknown)}; it learns {listed(names)}: "
                "rename the class, leave its samples out, or let [model] classes and class_names name it"
            )
        return None
    if names and data.classes_digest and data.classes_digest != names_digest(names):
        return "the names of the classes are not those of the fleet: give every device the same classes.txt"
    if data.highest >= classes:
        hint = "; if they count from 1, subtract 1" if data.highest == classes else ""
        return f"the labels go up to {data.highest} but the model has {classes} classes (0 to {classes - 1}){hint}"
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
    have = data.features.names
    if lacks := [name for name in names if name not in have]:
        return f"the fleet has features that the samples lack: {listed(lacks)}; rename the columns, or list features="
    if more := [name for name in have if name not in names]:
        return f"the samples have features that the fleet lacks: {listed(more)}; list the fleet's with features="
    return None


def _other_layout(samples: tuple[int, ...], model: tuple[int, ...]) -> str | None:
    """Returns advice if two shapes differ only in the order or presence of the channel dimension; otherwise None."""
    if len(model) == 3 and samples == (*model[1:], model[0]):
        return "channels come first here; give it x.transpose(0, 3, 1, 2)"
    if model[:1] == (1,) and samples == model[1:]:
        return "the one channel counts as a dimension here; give it x[:, None]"
    return None


def lacking(data: DataFacts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the fleet's classes without a sample here; none if the samples have no class names."""
    return tuple(name for name in names if name not in set(data.present)) if data.classes else ()


def listed(names: Sequence[str]) -> str:
    """Lists names for people, quoted, and shortened if there are many."""
    shown = ", ".join(f'"{name[:40]}"' for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
