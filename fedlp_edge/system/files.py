"""This module writes files crash-safely: under a temporary name first, then renamed to the final one.

A process may be killed at any line, and a small board loses power without a warning:

* A *kill* leaves the old file or the new one, never a mixture: the new bytes have a temporary name, with ``PARTIAL`` at
  its end, until they are complete, and one ``rename`` gives them the final name. ``remove_partials`` removes the
  partial files of a killed process at the next start.
* A *power cut* may lose what the kernel has not yet written. With ``durable=True`` the bytes and the new name are
  flushed to the disk before the call returns, so a power cut leaves the old file or the new one as well. With
  ``durable=False`` it may leave an empty or a truncated file under the final name; this suits files that have their
  digest in their name, or are recomputed when they do not decode.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".part"
"""Suffix of files that are still being written."""


def partial_path(path: Path) -> Path:
    """Returns the temporary path of a file that is being written."""
    return path.with_name(path.name + PARTIAL)


@contextmanager
def replacing(path: Path, *, durable: bool = True, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, which replaces ``path`` on success and is removed otherwise.

    Args:
        path: Final path, whose directory exists.
        durable: Whether the file survives a power cut once this context has ended.
        shared: Whether other processes may write the same file at the same time; the last one to end wins.

    Raises:
        OSError: The disk is full or failed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}") if shared else partial_path(path)
    try:
        yield partial
        if durable:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        move_into_place(partial, path, durable=durable)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a write to an open file does not say where
        raise


def write_file(path: Path, parts: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Writes the parts one behind the other as one file, crash-safely (``replacing``).

    Raises:
        OSError: The disk is full or failed.
    """
    with replacing(path, durable=durable) as partial, partial.open("wb") as file:
        file.writelines(parts)


def move_into_place(source: Path, path: Path, *, durable: bool = True) -> None:
    """Renames a complete file or link over ``path``, on the same file system.

    Args:
        source: File or link; its bytes must be flushed already if they shall survive a power cut.
        path: Final path, which is replaced if it exists.
        durable: Whether the new name survives a power cut once this function has returned.

    Raises:
        OSError: The disk failed.
    """
    os.replace(source, path)
    if durable:
        _sync_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Makes a symbolic link point to ``target`` in one step, so that the link is never missing.

    Raises:
        OSError: The disk is full or failed.
    """
    partial = partial_path(link)
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    move_into_place(partial, link)


def bears_links(directory: Path) -> bool:
    """Whether the file system of a directory has symbolic links: FAT and many network shares have none."""
    probe = partial_path(directory / "link")
    try:
        probe.unlink(missing_ok=True)
        probe.symlink_to("nowhere")
    except OSError as error:
        return error.errno not in {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
    probe.unlink(missing_ok=True)
    return True


def remove_partials(directory: Path) -> None:
    """Removes the files that an earlier process did not finish writing."""
    for path in directory.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
