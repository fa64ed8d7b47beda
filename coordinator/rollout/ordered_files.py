"""The files that one device gets with an order to install a model, by the names that the order gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    files: Mapping[str, Path]
    model: str
    self_test: str = ""
