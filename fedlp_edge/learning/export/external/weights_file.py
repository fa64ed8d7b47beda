"""This module finds the file of weights that stands beside an ONNX file, and checks that the two belong together.

A graph says where in ``NAME.onnx.data`` the values of a tensor begin, and nothing of what they are: with the weights of
another model of the same size onnxruntime answers nonsense without a word. So the metadata hold size and digest of the
file. The module needs neither PyTorch nor ONNX, because inference on a device has neither.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.system.protobuf_fields import LENGTH, fields

SUFFIX = ".data"
"""What the name of a file of weights has behind the name of its ONNX file."""

_FILE, _BYTES, _DIGEST = "fedlp.weights_file", "fedlp.weights_bytes", "fedlp.weights_blake3"
_MODEL_METADATA, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The file that holds the weights of an ONNX file.

    Attributes:
        name: Name of the file, which stands beside the ONNX file.
        size: Bytes of the file.
        blake3: BLAKE3 of the file, as hexadecimal digits.
    """

    name: str
    size: int
    blake3: str

    @property
    def properties(self) -> dict[str, str]:
        """Metadata of the ONNX file that say which weights are its own."""
        return {_FILE: self.name, _BYTES: str(self.size), _DIGEST: self.blake3}


def weights_file_of(model: Path) -> WeightsFile | None:
    """Returns the file of weights that an ONNX file names in its metadata; None if its weights stand in it.

    None, too, for what is no ONNX file or cannot be read, of which onnxruntime says more.
    """
    try:
        with model.open("rb") as file:
            properties = _metadata(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        return WeightsFile(properties[_FILE], int(properties[_BYTES]), properties[_DIGEST])
    except (OSError, ValueError, IndexError, KeyError):
        return None


def bytes_of_model(model: Path) -> int:
    """Returns the bytes of an ONNX file and of its file of weights, if it has one.

    Raises:
        OSError: The ONNX file cannot be read.
    """
    weights = weights_file_of(model)
    return model.stat().st_size + (0 if weights is None else weights.size)


def check_weights(model: Path) -> None:
    """Checks that the file of weights that an ONNX file names stands beside it, and is that which it was written with.

    Raises:
        ExportError: It is missing, cannot be read, or is another one.
    """
    weights = weights_file_of(model)
    if weights is None:
        return
    shown = display_name(model)
    if Path(weights.name).name != weights.name:
        raise ExportError(f"{shown} names no file beside it for its weights, but {weights.name!r}; export it again")
    path = model.with_name(weights.name)
    if not path.is_file():
        raise ExportError(
            f"{shown} keeps its weights in {weights.name}, which is not beside it: copy both files to one folder, "
            "under the names that they have"
        )
    other = f"{display_name(path)} does not hold the weights that {model.name} was exported with"
    try:
        if (size := path.stat().st_size) != weights.size:
            raise ExportError(f"{other}: it has {size} bytes in place of {weights.size}; copy both files again")
        if blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() != weights.blake3:
            raise ExportError(f"{other}, but others; copy both files again")
    except OSError as error:
        raise ExportError(f"{display_name(path)} cannot be read: {error.strerror or error}") from None


def _metadata(view: memoryview) -> dict[str, str]:
    """Returns the metadata of an ONNX file; the graph before them is not looked at."""
    found = {}
    for number, wire, start, stop in fields(view, 0, len(view)):
        if number == _MODEL_METADATA and wire == LENGTH:
            entry = {inner: bytes(view[low:high]) for inner, _, low, high in fields(view, start, stop)}
            found[entry[_ENTRY_KEY].decode()] = entry.get(_ENTRY_VALUE, b"").decode()
    return found
