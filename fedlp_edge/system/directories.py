"""This module makes, checks and empties a service's private directories, and walks through folders of its owner."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fedlp_edge.errors import StorageError


def working_directory() -> str:
    """Returns the working directory, where the owner's own modules are looked for; the root if it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return os.sep


def expand_user(path: str) -> Path:
    """Returns a path with ``~`` replaced by the home directory.

    Args:
        path: Path as a person has written it.

    Raises:
        StorageError: The path begins with ``~``, and this user has no home directory, as in a container that runs
            under a number that no account has; or with ``~name``, and there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        if name := Path(path).parts[0].removeprefix("~"):
            raise StorageError(f"{path}: this machine has no user {name}; write the whole path") from None
        raise StorageError(f"{path}: this user has no home directory; set HOME, or write the whole path") from None


def home_directory(remedy: str) -> Path:
    """Returns the home directory of this user.

    Args:
        remedy: What to do where there is none, for the message.

    Raises:
        StorageError: There is none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise StorageError(f"this user has no home directory; {remedy}") from None


def xdg_directory(variable: str) -> Path | None:
    """Returns a base directory of the XDG specification; None if the environment names none that counts.

    A path that is not absolute does not count, as the specification has it: in a service file or a crontab, where no
    shell replaces ``~``, it would mean another directory wherever a command is started.

    Args:
        variable: Such as ``XDG_CACHE_HOME``.
    """
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def make_directory(directory: Path, option: str = "--state") -> Path:
    """Makes a directory that only its owner may read, and its parents.

    Args:
        directory: Directory, which may exist already.
        option: Command line option that names another directory, for the message.

    Raises:
        StorageError: The directory cannot be made or written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{directory}: {error.strerror}; {owner_hint(directory, error)}choose another place with {option}"
        ) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageError(f"{directory}: not writable; {owner_hint(directory)}choose another place with {option}")
    return directory


def owner_hint(path: Path, error: OSError | None = None) -> str:
    """Returns what to say before another remedy where a path may not be used since it is another user's; else nothing.

    Most often that user is root, and an earlier start was one with ``sudo``.

    Args:
        path: Path that cannot be made, read or written to; the nearest one above counts if it is missing.
        error: What an attempt raised; None if access was asked for and denied.
    """
    if sys.platform == "win32":  # which has lists of rights, and no sudo
        return ""
    me = os.geteuid()
    for place in (path, *path.parents) if error is None or isinstance(error, PermissionError) else ():
        try:
            owner, read_only = place.stat().st_uid, os.statvfs(place).f_flag & os.ST_RDONLY
        except OSError:
            continue
        if owner == me or read_only:
            break
        whose = f"belongs to {_user_name(owner)}, and this is {_user_name(me)}"
        if place != path:
            return f"{place} {whose}; "
        return f"it {whose}: give it to this user (chown -R, as after a start with sudo), or "
    return ""


def this_user() -> str:
    """Returns the name of the user that this process runs as, for messages."""
    return "this user" if sys.platform == "win32" else _user_name(os.geteuid())


def _user_name(number: int) -> str:
    import pwd  # noqa: PLC0415 - Windows has no such module

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container under a number that no account has
        return f"user {number}"


def is_there(path: Path) -> bool:
    """Returns whether there is anything at a path.

    ``Path.exists`` says no from Python 3.14 on where the look is forbidden, or the name too long.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def have_temporary_directory(instead: Path) -> None:
    """Has this process and those that it starts put temporary files where they can be written.

    Containers and services may have nothing that is writable but their own directory: ``docker run --read-only``,
    ``ProtectSystem=strict`` without ``PrivateTmp=yes``.

    Args:
        instead: Directory for temporary files where there is no usual one.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = tempfile.tempdir = str(instead.absolute())


def empty_directory(directory: Path) -> Path:
    """Makes a directory, or removes the files in it.

    The directory itself stays, since removing it may wait for the file system's journal.

    Raises:
        StorageError: The directory cannot be made or written to.
        OSError: A file in the directory cannot be removed.
    """
    for path in make_directory(directory).iterdir():
        path.unlink(missing_ok=True)
    return directory


def walk_folders(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """Yields a folder and all folders below, each with the names of its files, sorted.

    Links to folders are followed, but never in circles. A pipe, a device and a link that leads nowhere count as files.

    Args:
        folder: Folder to begin with.
        unreadable: Called with the error of each folder that cannot be read; what it raises ends the walk.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]
    while waiting:
        here, above = waiting.pop()
        try:
            status = Path(here).stat()
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            unreadable(error)
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        folders = [entry.path for entry in entries if _is_folder(entry)]
        waiting += [(path, above | {identity}) for path in reversed(folders)]
        yield Path(here), [entry.name for entry in entries if not _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
