"""This module hands bytes to what reads files by their names, which Windows refuses while the writer has them open."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_file(content: bytes, prefix: str, suffix: str) -> Iterator[Path]:
    """Yields the path of a file with these bytes, which is closed, and is removed in the end.

    Raises:
        OSError: The directory for temporary files is full or cannot be written to.
    """
    descriptor, name = tempfile.mkstemp(suffix, prefix)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        with suppress(OSError):  # on Windows, as long as a reader has it open
            path.unlink()
