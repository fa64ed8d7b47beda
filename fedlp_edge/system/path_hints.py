"""This module says what may be wrong with a path of data that is not there, or of a run that is none."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from fedlp_edge.errors import OperatorError
from fedlp_edge.system.directories import owner_hint, this_user, working_directory
from fedlp_edge.system.portable.shell_words import quoted

_REMEDIES = (
    (("file://",), "write the path itself, without file://"),
    (("://",), "data are read from this machine; fetch them, or mount what holds them"),
    (("$", "%"), "variables are not expanded here; write the path itself, or ~ for the home directory"),
    (("*",), "patterns are not expanded here; name the directory"),
    (("&", "?", "="), "options follow a #, as in #target=y&window=8"),
)
"""What a path may hold, and what to do then; the first that fits counts."""

_PRIVATE_PLACES = {
    "ProtectHome=yes": ("/home", "/root", "/run/user"),
    "PrivateTmp=yes": ("/tmp", "/var/tmp"),
}
"""Settings of a service file, with the directories that the service then does not see as others do."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""How the names of archives end, in small letters."""

_CHECKPOINTS = "checkpoints"
_LEVELS = 3
"""Directories above a path that may be the run's: a file may lie in ``RUN/devices/ID``."""


@contextlib.contextmanager
def explain_paths(configuration: Path | None) -> Iterator[None]:
    """Says, where an error tells that something is not in the working directory, that a configuration lies elsewhere.

    Its paths and modules are looked for in the working directory, whatever directory it lies in itself.

    Args:
        configuration: Configuration file that names them; None if there is none.
    """
    try:
        yield
    except OperatorError as error:
        here = working_directory()
        folder = here if configuration is None else str(configuration.absolute().parent.resolve())
        if folder != str(Path(here).resolve()) and f" in {here}" in str(error):
            elsewhere = f"and {configuration} lies in another: cd {quoted(folder)}"
            error.args = (f"{error}; paths and modules start from the working directory, {elsewhere}", *error.args[1:])
        raise


def shown_path(path: Path) -> str:
    """Returns a path for a message, with the directory that a relative one starts from."""
    return str(path) if path.is_absolute() else f"{path} in {working_directory()}"


def path_hint(argument: str, path: Path) -> str:
    """Returns what to do about a path that is missing, or of the wrong kind; empty if nothing about it is remarkable.

    Args:
        argument: Path as a person has written it, which may be meant for a shell, a browser or another program.
        path: Path that it was taken for.
    """
    if path.exists():
        if path.is_dir():
            return ": it is a directory"
        archive = path.name.lower().endswith(ARCHIVES)
        return ": it is an archive: unpack it" if archive else ": it is a file; name the directory that holds it"
    if near := _near_name(path):
        return f": {near!r} is there, which differs in blanks, capitals or the way that accents are stored"
    if unquote(argument) != argument and Path(unquote(argument)).exists():
        return f": write it as the disk has it, {unquote(argument)}"
    remedies = (f": {remedy}" for marks, remedy in _REMEDIES if any(mark in argument for mark in marks))
    return next(remedies, "") or _hidden_from_services(path)


def denied_hint(path: Path) -> str:
    """Returns which directory above a path this user may not enter, and what to do; empty if it may enter all.

    Args:
        path: Path that may not be looked at.
    """
    for place in reversed(path.absolute().parents):
        if place.is_dir() and not os.access(place, os.X_OK):
            hidden = _hidden_from_services(path) if str(place) in _PRIVATE_PLACES["ProtectHome=yes"] else ""
            elsewhere = f"; let {this_user()} enter it (chmod o+x), or put the data elsewhere"
            return f": {place} is closed to {this_user()}{hidden or elsewhere}"
    return ""


def _hidden_from_services(path: Path) -> str:
    """Returns which setting hides a path from a service of systemd, and what to do; empty for anything else."""
    if not os.environ.get("INVOCATION_ID"):  # which systemd sets for services
        return ""
    for setting, places in _PRIVATE_PLACES.items():
        if any(path.absolute().is_relative_to(place) for place in places):
            return f"; a service with {setting} does not see what is there: put it elsewhere, such as below /srv"
    return ""


def run_hint(path: Path) -> str:
    """Returns what to do about a path that holds no run, to be put behind a message.

    Args:
        path: Path of a directory without a run's files, of a file, or of nothing.
    """
    with contextlib.suppress(OSError):  # directories may not be readable
        for place in (path, path / _CHECKPOINTS):
            if place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
                return f" that may be read: {place}: {owner_hint(place)}give this user access"
        if not path.exists():
            return f": there is no {shown_path(path)}{path_hint(str(path), path)}"
        for above in list(path.absolute().parents)[:_LEVELS]:
            if _is_run(above):
                return f"; it lies in a run: name {above}"
        if newest := newest_run(path):
            several = sum(map(_is_run, path.iterdir())) > 1
            return f"; it holds {'runs: name one, such as the newest' if several else 'a run: name it'}, {newest}"
    return "; is it the directory of a run?"


def newest_run(directory: Path) -> Path | None:
    """Returns the run in a directory whose last checkpoint is the newest; None if it holds no run.

    Raises:
        OSError: The directory cannot be read.
    """
    runs = [below for below in directory.iterdir() if _is_run(below)] if directory.is_dir() else []
    return max(runs, key=lambda run: (run / _CHECKPOINTS).stat().st_mtime, default=None)


def _is_run(path: Path) -> bool:
    return (path / _CHECKPOINTS).is_dir()


def _near_name(path: Path) -> str:
    """Returns the name beside a path that is missing which a person would take for the same; empty if there is none."""

    def plain(name: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", name).casefold().split())

    try:
        return next((near.name for near in path.parent.iterdir() if plain(near.name) == plain(path.name)), "")
    except OSError:  # the folder is missing, too, or may not be read
        return ""
