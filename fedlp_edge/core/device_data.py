"""What a device or a coordinator says of its samples, and whether a model can take them.

The two sides compare before the first round: a shape or a class that does not fit would otherwise fail in every one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

MAX_CLASSES = 4096
"""Names of classes that a report lists; of longer lists the digest alone is compared."""

MAX_NAME = 200
"""Characters of a name that are reported and compared."""

_SHOWN = 8

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
ClassName = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Samples in a few words; nothing that tells one of them from another.

    Attributes:
        sample_shape: of one sample; empty for pictures that are brought to whatever size the model takes.
        classes: names by the owner's own class numbers; empty if the samples have numbers alone, or too many names.
        classes_digest: of all names; empty without names.
        absent: the owner's numbers of classes that have a name and no sample.
        labels: number of distinct labels.
        highest: greatest label.
    """

    sample_shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=2**31)], ...], msgspec.Meta(max_length=8)] = ()
    classes: Annotated[tuple[ClassName, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    classes_digest: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    absent: Annotated[tuple[Number, ...], msgspec.Meta(max_length=MAX_CLASSES)] = ()
    labels: Number = 0
    highest: Number = 0

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that have samples."""
        absent = set(self.absent)
        return tuple(name for number, name in enumerate(self.classes) if number not in absent)


def names_digest(names: Sequence[str]) -> str:
    """A digest of class names in their order; empty without names."""
    return hashlib.sha256(msgspec.json.encode(list(names))).hexdigest() if names else ""


def mismatch(data: DataFacts, input_shape: tuple[int, ...], classes: int, names: tuple[str, ...] = ()) -> str | None:
    """Why a model cannot take these samples; None if it can.

    Args:
        data: of the samples.
        input_shape: of one sample of the model.
        classes: that the model tells apart.
        names: of the fleet's classes by number; empty if classes are numbers there.
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


def _other_layout(samples: tuple[int, ...], model: tuple[int, ...]) -> str | None:
    """What to do where the numbers are right and their order is not."""
    if len(model) == 3 and samples == (*model[1:], model[0]):
        return "channels come first here; give it x.transpose(0, 3, 1, 2)"
    if model[:1] == (1,) and samples == model[1:]:
        return "the one channel counts as a dimension here; give it x[:, None]"
    return None


def lacking(data: DataFacts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes of the fleet of which there is no sample here; none if that cannot be told."""
    return tuple(name for name in names if name not in set(data.present)) if data.classes else ()


def listed(names: Sequence[str]) -> str:
    """Some names for people, quoted and cut short."""
    shown = ", ".join(f'"{name[:40]}"' for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
