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
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from fedlp_edge.system.portable.file_access import flush_directory, flush_to_disk, once_free

PARTIAL = ".part"
"""Suffix of files that are still being written."""

_LEFT_BEHIND = (f"*{PARTIAL}", ".tmp" + 6 * "[0-9A-Za-z]")
"""What a killed process leaves: its own partial files, and those of safetensors, which writes under a name of its own
beside the path that it is given, another one each time."""

_WORDS = re.compile(r"I/O error: (.+?) \(os error (\d+)\)")

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_LINKS_ON_WINDOWS = frozenset({1, 50})  # no such function, and not supported: of FAT and shares


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
            with partial.open("r+b") as written:  # Windows flushes nothing that is open for reading alone
                flush_to_disk(written.fileno())
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
    once_free(lambda: os.replace(source, path))
    if durable:
        flush_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Makes a link point to a file in one step, so that the link is never missing.

    Windows lets administrators and developers alone make symbolic links. There, and wherever there are none, it is a
    second name of the same file.

    Args:
        link: The link.
        target: Path of the file, from the directory of the link.

    Raises:
        OSError: The disk is full or failed.
    """
    partial = partial_path(link)
    partial.unlink(missing_ok=True)
    with suppress(OSError):
        partial.symlink_to(target)
    if not partial.is_symlink():
        os.link(link.parent / target, partial)
    move_into_place(partial, link)
    partial.unlink(missing_ok=True)  # Linux leaves it where both are names of one file already


def link_target(link: Path) -> str:
    """Returns where a link of ``replace_link`` points to, from the directory of the link; empty if there is no link."""
    try:
        if link.is_symlink():
            return str(link.readlink())
        names = link.parent.glob(f"*/*/*{link.suffix}") if link.stat().st_nlink > 1 else ()
        return next((path.relative_to(link.parent).as_posix() for path in names if path.samefile(link)), "")
    except OSError:
        return ""


def bears_links(directory: Path) -> bool:
    """Whether a directory can have links of ``replace_link``: those of FAT and of many network shares cannot."""
    target, link = partial_path(directory / "linked"), partial_path(directory / "link")
    try:
        target.touch()
        replace_link(link, target.name)
    except OSError as error:
        return error.errno not in _NO_LINKS and getattr(error, "winerror", None) not in _NO_LINKS_ON_WINDOWS
    finally:
        for path in (link, target):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return True


def why_not_written(error: Exception) -> str:
    """Returns why a file could not be written, in the system's words; where there is no room, with what to do.

    Args:
        error: What the attempt raised. safetensors puts the number of the system's error into a text of its own, beside
            a path that nobody knows.
    """
    number, words = getattr(error, "errno", None), getattr(error, "strerror", None)
    if words is None and (found := _WORDS.search(str(error))):
        number, words = int(found[2]), found[1]
    return (words or str(error)) + ("; make room there" if number in (errno.ENOSPC, errno.EDQUOT) else "")


def remove_partials(directory: Path) -> None:
    """Removes the files that an earlier process did not finish writing; no other process may write there now."""
    for path in chain.from_iterable(map(directory.glob, _LEFT_BEHIND)):
        with suppress(OSError):  # a disk that has become read-only keeps it, and nothing else from being read
            path.unlink(missing_ok=True)
