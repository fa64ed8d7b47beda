"""This module finds tensors by their contents in files that a machine has, such as units of a model or ONNX files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from fedlp_edge.errors import PeerError, ReleaseError
from fedlp_edge.release.onnx_tensors import FLOAT, onnx_tensors
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.wire.tensors import FLOAT32, read_header

Array = npt.NDArray[np.float32]

KEY_BYTES = 16
"""Bytes of a tensor's key: its BLAKE3 digest, cut off; the whole file is verified in the end."""

LEAST_BYTES = 256
"""Bytes of the smallest tensor that is looked for; a key and a place for a smaller one save nothing."""


def key_of(values: memoryview | bytes) -> bytes:
    """Returns the key of a tensor's values, float32 in little-endian order."""
    return blake3(values).digest()[:KEY_BYTES]


class TensorIndex:
    """Where float32 tensors stand, by key.

    Args:
        places: File, offset and size of each tensor, by key.
    """

    def __init__(self, places: dict[bytes, tuple[Path, int, int]]) -> None:
        self._places = places

    @classmethod
    def of(cls, paths: Iterable[Path]) -> TensorIndex:
        """Reads files; those that hold no float32 tensors, or are gone, have no part in it.

        Args:
            paths: Safetensors files of any name, and ONNX files by their suffix.
        """
        places: dict[bytes, tuple[Path, int, int]] = {}
        for path in paths:
            try:
                blob = mapped(path)
                for offset, size in _onnx_places(blob) if path.suffix == ".onnx" else _safetensors_places(blob):
                    if size >= LEAST_BYTES:
                        places.setdefault(key_of(blob[offset : offset + size]), (path, offset, size))
            except (OSError, PeerError, ReleaseError):
                continue
        return cls(places)

    @property
    def keys(self) -> list[bytes]:
        """Keys of all tensors."""
        return list(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def values(self, key: bytes) -> Array:
        """Returns a tensor's values in one dimension, read only.

        Raises:
            KeyError: No file holds the tensor.
            OSError: The file is gone.
        """
        path, offset, size = self._places[key]
        return np.frombuffer(mapped(path)[offset : offset + size], "<f4")


def _onnx_places(blob: memoryview) -> list[tuple[int, int]]:
    return [(tensor.offset, tensor.size) for tensor in onnx_tensors(blob) if tensor.type == FLOAT]


def _safetensors_places(blob: memoryview) -> list[tuple[int, int]]:
    header, body = read_header(blob)
    start = len(blob) - len(body)
    return [(start + info.data_offsets[0], info.nbytes) for info in header.values() if info.dtype == FLOAT32]
