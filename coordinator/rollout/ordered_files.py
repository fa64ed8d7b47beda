"""The files that one device gets with an order to install a model, by the names that the order gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

METADATA_SUFFIX = ".json"
"""Suffix of signed metadata, whose contents change from one order to the next under the same path."""


@dataclass(frozen=True)
class OrderedFiles:
    """What an order to install a model names.

    Attributes:
        files: Paths of all files by name.
        model: Name of the ONNX file.
        self_test: Name of the file with the self-test; empty for none.
        choices: Names of the ONNX file and of its self-test, by the path of each file of which the device is to choose,
            the one that it gets otherwise included; empty if there is nothing to choose.
    """

    files: Mapping[str, Path]
    model: str
    self_test: str = ""
    choices: Mapping[Path, tuple[str, str]] = field(default_factory=dict)


OrderFiles = Callable[[str, Path, Sequence[Path]], OrderedFiles]
"""Returns what a device gets with an order of a file, or of several among which the device chooses."""
