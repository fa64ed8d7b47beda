"""This module keeps the latest inputs of a served model on the device, for the exam of the model that comes after it.

The agent makes the directory ``live`` beside the link that is served; where it is missing, nothing is kept. The inputs
never leave the device. ``held_out`` beside it has samples with their labels, as the worker has written them.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from fedlp_edge.system.files import write_file

KEPT = 64
"""Number of inputs that are kept; the oldest one is replaced."""

MAX_INPUT_BYTES = 1 << 20
"""Bytes of the largest input that is kept: a flash card has other things to hold."""

LIVE = "live"
HELD_OUT = "held_out"
_ARRAY_HEAD = b"\x93NUMPY"


class LiveInputs:
    """A ring of files; may be used from several threads.

    Args:
        directory: Directory of the link that is served.
        every: Every how many inputs one is kept: flash wears out.
    """

    def __init__(self, directory: Path, every: int = 10) -> None:
        self._directory = directory / LIVE
        self._every = every
        self._lock = threading.Lock()
        self._seen = 0

    def add(self, body: bytes) -> None:
        """Keeps an input that was answered: the bytes of a picture or of a ``.npy`` file."""
        with self._lock:
            number, self._seen = self._seen, self._seen + 1
        if number % self._every or len(body) > MAX_INPUT_BYTES or not self._directory.is_dir():
            return
        place = number // self._every % KEPT
        array = body.startswith(_ARRAY_HEAD)
        path = self._directory / f"{place:03d}{'.npy' if array else '.picture'}"
        with suppress(OSError):
            write_file(path, [body], durable=False)
            path.with_suffix(".picture" if array else ".npy").unlink(missing_ok=True)


def live_inputs(directory: Path) -> list[Path]:
    """Returns the inputs that are kept, newest first.

    Args:
        directory: Directory of the link that is served.
    """
    found = [path for path in _files(directory / LIVE) if path.suffix in (".npy", ".picture")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def held_out_samples(directory: Path) -> list[tuple[Path, str]]:
    """Returns the held-out samples with their labels; a label is empty if the sample has none.

    Args:
        directory: Directory of the link that is served.
    """
    return [(path, path.stem.partition("=")[2]) for path in _files(directory / HELD_OUT) if path.suffix == ".npy"]


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
