"""Describes where a model's start weights come from, and what was made of them, as plain data.

``[model] weights`` names a file, an earlier run, or what torchvision publishes. Who reads the configuration finds the
file and its digest, and a worker fills the model and reports what it took.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RUN = "run:"
TORCHVISION = "torchvision"

_NAMED = 4
"""Names in a line before the rest is counted."""


class StartWeights(msgspec.Struct, frozen=True):
    """Start weights that were found.

    Attributes:
        source: Where they come from, as the configuration says it.
        path: Path of the file; empty for torchvision's own, which torchvision fetches.
        sha256: Digest of the file; empty for any.
        reset_heads: Nothing is taken for the heads, which start anew.
    """

    source: str
    path: str = ""
    sha256: str = ""
    reset_heads: bool = False


class StartWeightsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken of start weights; names are those of the original model, and of heads of its own ``H2.NAME``.

    Attributes:
        source: Where they come from, as the configuration says it.
        sha256: Digest of the file.
        taken: Tensors that were taken as they are.
        reshaped: How a tensor was taken in another shape, by its name.
        anew: Why a tensor starts from new random values, by its name.
        left_out: Tensors of the file that the model does not have.
        parameters: Number of scalars that were taken.
        of: Number of scalars of the model, running statistics included.
    """

    source: str
    sha256: str
    taken: tuple[str, ...] = ()
    reshaped: dict[str, str] = {}
    anew: dict[str, str] = {}
    left_out: tuple[str, ...] = ()
    parameters: int = 0
    of: int = 0

    @property
    def line(self) -> str:
        """The report in one line."""
        count = len(self.taken) + len(self.reshaped)
        share = 100 * self.parameters / max(1, self.of)
        parts = [f"starts from {self.source}: {count} of {count + len(self.anew)} tensors taken ({share:.1f} %)"]
        if self.reshaped:
            parts.append(f"{_listed(list(self.reshaped))} reshaped")
        if self.anew:
            # A module starts anew as a whole, so its name says it for its weight and its bias.
            parts.append(f"{_listed(list(dict.fromkeys(name.rpartition('.')[0] or name for name in self.anew)))} anew")
        if self.left_out:
            parts.append(f"{len(self.left_out)} of the file left out")
        return ", ".join(parts)


def source_kind(source: str) -> Literal["file", "run", "torchvision"]:
    """Which kind of source ``[model] weights`` names."""
    if source.startswith(RUN):
        return "run"
    return "torchvision" if source == TORCHVISION or source.startswith(f"{TORCHVISION}:") else "file"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
