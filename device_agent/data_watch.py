"""Notices that a device's data have changed, so that pictures which arrive while its agent runs count.

The contents are not read. Names, sizes and times of what lies at the data's place are enough to know that the worker
should load them again; that it does when the device has nothing else to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from device_agent.limits import LIMITS
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.system.directories import walk_folders

_LIMITS = LIMITS.data_watch


def data_fingerprint(spec: DataSpec) -> str:
    """Returns a digest of what the data's place holds; empty where there is nothing to look at."""
    if not spec.watched:
        return ""
    digest = hashlib.sha256()
    for path in spec.watched:
        for line in _listing(path):
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _listing(path: Path) -> list[str]:
    if not path.is_dir():
        return [_entry(path)]
    errors: list[OSError] = []
    lines = [_entry(here / name) for here, names in walk_folders(path, errors.append) for name in names]
    return [*lines, *(f"{error.filename}\0{error.errno}\n" for error in errors)]


def _entry(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}\0{error.errno}\n"
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"


class DataWatch:
    """The decision when to look at the data, and whether they must be loaded again.

    Args:
        mark: Function that returns a digest of the data, see ``data_fingerprint``.
        clock: Monotonic seconds.
    """

    def __init__(self, mark: Callable[[], str], clock: Callable[[], float]) -> None:
        self._mark = mark
        self._clock = clock
        self._loaded = self._seen = ""
        self._look_at: float | None = None
        self._other_since: float | None = None  # when a look first saw other data than those that are loaded
        self._changed = False

    def loading(self) -> None:
        """Notes that the data are being loaded."""
        began = self._clock()
        self._loaded = self._seen = self._mark()
        self._changed = False
        self._other_since = None
        self._look_at = self._later(began) if self._loaded else None

    def next_wakeup(self) -> float | None:
        """Returns when to look again, in seconds; None if there is nothing to look at."""
        return self._look_at

    def changed(self) -> bool:
        """Returns whether the data must be loaded again; looks at them if it is time."""
        began = self._clock()
        if self._look_at is not None and began >= self._look_at:
            before, self._seen = self._seen, self._mark()
            if self._seen == self._loaded:
                self._other_since = None
            elif self._other_since is None:
                self._other_since = began
            restless = self._other_since is not None and began - self._other_since >= _LIMITS.restless_seconds
            self._changed = self._seen == before != self._loaded or restless
            self._look_at = self._later(began)
        return self._changed

    def _later(self, began: float) -> float:
        now = self._clock()
        return now + max(_LIMITS.interval_seconds, (now - began) / _LIMITS.duty)
