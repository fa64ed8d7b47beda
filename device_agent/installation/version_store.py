"""The models that are installed on this device: a directory for each version, and one link to the one that answers.

Every version stands in ``versions/ID/NAME.onnx``, where the id is the beginning of the file's digest. ``current.onnx``
points to one of them and is replaced in one step, so whoever opens it finds a whole model, whenever the power is cut.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fedlp_edge.system.directories import make_directory
from fedlp_edge.system.files import PARTIAL, link_target, move_into_place, partial_path, replace_link, write_file
from fedlp_edge.system.portable.file_access import flush_to_disk
from fedlp_edge.wire.digests import digest_of_file

CURRENT = "current.onnx"
"""Name of the link."""

VERSIONS = "versions"
_ID_DIGITS = 16


class VersionStore:
    """The versions below one directory; nothing is read or written before a method is called.

    A version is named by its *target*, the path that the link has when it is the current one.

    Args:
        directory: Directory of the device's models.

    Attributes:
        directory: Directory of the device's models.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def link(self) -> Path:
        """The link that applications open."""
        return self.directory / CURRENT

    @property
    def current(self) -> str:
        """Target of the link; empty if there is none."""
        return link_target(self.link)

    def path(self, target: str) -> Path:
        """Path of a version's model."""
        return self.directory / target

    def beside(self, target: str, name: str) -> Path:
        """Path of a file that was stored with a version."""
        return self.path(target).parent / name

    def target(self, name: str, digest: str) -> str:
        """Target of a file with a name and a digest."""
        return f"{VERSIONS}/{digest[:_ID_DIGITS]}/{name}"

    def files(self, digest: str) -> list[Path]:
        """Returns the models that are probably the file of this digest."""
        return sorted((self.directory / VERSIONS / digest[:_ID_DIGITS]).glob("*.onnx"))

    def has(self, target: str, digest: str) -> bool:
        """Whether a version is there, whole."""
        path = self.path(target)
        return path.is_file() and digest_of_file(path) == digest

    def add(self, source: Path, name: str, digest: str, beside: Mapping[str, Path | bytes] | None = None) -> str:
        """Stores a version, which survives a power cut once this returns; the link stays as it is.

        Args:
            source: Path of the ONNX file, on the same file system if no room is to be taken twice.
            name: Name of the file in the store.
            digest: Digest of the file.
            beside: Files to store with it, by name: paths to copy, or their bytes.

        Returns:
            The target of the version.

        Raises:
            OSError: The disk is full or failed.
        """
        target = self.target(name, digest)
        place = self.path(target).parent
        make_directory(make_directory(self.directory) / VERSIONS)
        if not place.is_dir():
            make_directory(place)
        for other, content in (beside or {}).items():
            write_file(place / other, [content if isinstance(content, bytes) else content.read_bytes()])
        if not self.has(target, digest):
            self._place(source, place / name)
        return target

    def switch(self, target: str) -> None:
        """Points the link to a version in one step; to none if the target is empty.

        Raises:
            OSError: The disk is full or failed.
        """
        if target:
            replace_link(self.link, target)
        else:
            self.link.unlink(missing_ok=True)

    def keep_only(self, targets: Iterable[str]) -> None:
        """Removes all versions but these and the one that the link points to; what cannot be removed stays."""
        kept = {Path(target).parent.name for target in {*targets, self.current} if target.startswith(f"{VERSIONS}/")}
        with suppress(OSError):
            partial_path(self.link).unlink(missing_ok=True)
            for place in sorted((self.directory / VERSIONS).iterdir()):
                if place.name not in kept:
                    shutil.rmtree(place, ignore_errors=True)

    @staticmethod
    def _place(source: Path, path: Path) -> None:
        partial = path.with_name(path.name + PARTIAL)
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, partial)
        with partial.open("r+b") as written:
            flush_to_disk(written.fileno())
        move_into_place(partial, path)


def kept_versions(current: str, previous: Collection[str], keep: int) -> tuple[str, ...]:
    """Returns the earlier versions that are kept beside the current one.

    Args:
        current: Target of the current version.
        previous: Targets of earlier versions, newest first.
        keep: Number of versions that are kept, the current one included.
    """
    return tuple(dict.fromkeys(target for target in previous if target and target != current))[: max(0, keep - 1)]
