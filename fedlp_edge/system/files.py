"""The one place where a file is written beside its place and then moved there.

A process may be killed at any line, and a small board loses power without a warning. What each of the two leaves:

* A *kill* leaves the old file or the new one, never a mixture: the new bytes stand under another name, with
  ``PARTIAL`` at its end, until they are complete, and one ``rename`` gives them the name. A partial file that a killed
  process left is rubbish; ``remove_partials`` removes it at the next start.
* A *power cut* may lose what the kernel has not yet written. With ``durable=True`` the bytes and the new name are
  flushed to the disk before the call returns, so a power cut leaves the old file or the new one as well. With
  ``durable=False`` it may leave an empty or a cut-off file under the final name: for what carries its digest in its
  name, or is recomputed when it does not decode.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".part"
"""Suffix of files that are still being written."""


def partial_path(path: Path) -> Path:
    """Where the bytes of ``path`` stand until they are complete."""
    return path.with_name(path.name + PARTIAL)


@contextmanager
def replacing(path: Path, *, durable: bool = True, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, which takes ``path``'s place on success and is removed otherwise.

    Args:
        path: its directory exists.
        durable: whether the file also survives a power cut once this has returned.
        shared: whether other processes may write the same file at the same moment; the last one to end wins.

    Raises:
        OSError: the disk is full or failed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}") if shared else partial_path(path)
    try:
        yield partial
        if durable:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        move_into_place(partial, path, durable=durable)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, parts: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Writes the parts one behind the other as one file; see ``replacing``.

    Raises:
        OSError: the disk is full or failed.
    """
    with replacing(path, durable=durable) as partial, partial.open("wb") as file:
        file.writelines(parts)


def move_into_place(source: Path, path: Path, *, durable: bool = True) -> None:
    """Renames a complete file or link over ``path``, on the same file system.

    Args:
        source: its bytes are flushed already, if they must survive a power cut.
        path: what stood there is replaced.
        durable: whether the new name survives a power cut once this has returned.

    Raises:
        OSError: the disk failed.
    """
    os.replace(source, path)
    if durable:
        _sync_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Makes a symbolic link point to ``target`` in one step, so that whoever opens it never finds it missing.

    Raises:
        OSError: the disk is full or failed.
    """
    partial = partial_path(link)
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    move_into_place(partial, link)


def remove_partials(directory: Path) -> None:
    """Removes what an earlier process of this directory's owner did not finish writing."""
    for path in directory.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
