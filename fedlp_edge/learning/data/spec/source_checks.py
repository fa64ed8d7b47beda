"""This module checks before any slow work that the source of a specification is there, and can be read."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from fedlp_edge.errors import DataError, StorageError
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.learning.data.spec.source_kinds import FOLDERS, ON_DISK, TABLES
from fedlp_edge.system.directories import is_there
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.path_hints import ARCHIVES, denied_hint, path_hint, shown_path

_OF_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+|[\w-]+")


def check_source(spec: DataSpec) -> None:
    """Checks that the user's own directory or file exists, before any slow work begins.

    Raises:
        DataError: The directory or file is missing or cannot be accessed, the directory is empty, or a library for its
            kind is missing.
    """
    if spec.source not in ON_DISK:
        return
    try:
        is_there(spec.path)  # for its errors
        _check_path(spec, spec.path)
    except StorageError as error:  # the home of an unknown user
        raise DataError(str(error)) from None
    except OSError as error:  # no permission, or too long a name
        hint = denied_hint(spec.path) if isinstance(error, PermissionError) else ""
        raise DataError(f"cannot read {spec.argument}: {error.strerror or error}{hint}") from None


def require_scipy() -> None:
    """Checks that SciPy is installed, which sounds need.

    Raises:
        DataError: It is not; the message says what to install.
    """
    if find_spec("scipy") is None:
        raise DataError(f"sounds need SciPy: {install_command('audio')}")


def check_outside(spec: DataSpec, directory: Path, option: str) -> None:
    """Checks that an output directory does not lie inside the user's class folders, where it would count as a class.

    Args:
        spec: Data specification.
        directory: Output directory, which need not exist.
        option: Command-line option that sets another output directory, for the message.

    Raises:
        DataError: The output directory lies inside the folder of the samples.
    """
    if spec.source not in FOLDERS:
        return
    folder = spec.path.resolve()
    if directory.expanduser().resolve().is_relative_to(folder):
        what = "pictures" if spec.source == "imagefolder" else "sounds"
        raise DataError(
            f"{directory} lies among the {what} in {folder}, where its files would be taken for a class: "
            f"name a place outside with {option}"
        )


def _check_path(spec: DataSpec, path: Path) -> None:
    if spec.source in FOLDERS and not path.is_dir():
        kind = "image" if spec.source == "imagefolder" else "sound"
        raise DataError(f"there is no {kind} directory {shown_path(path)}{path_hint(spec.argument, path)}")
    if spec.source == "imagefolder" and find_spec("PIL") is None:  # an extra that only pictures need
        raise DataError(f"pictures need Pillow: {install_command('vision')}")
    if spec.source == "audiofolder":
        require_scipy()
    if spec.source in TABLES and find_spec("pandas") is None:
        raise DataError(f"tables need pandas: {install_command('tables')}")
    if spec.source in ("parquet", "huggingface") and find_spec("pyarrow") is None:
        raise DataError(f"Parquet needs pyarrow: {install_command('tables')}")
    if spec.source == "npz" and not path.is_file():
        raise DataError(f"there is no file {shown_path(path)}{path_hint(spec.argument, path)}")
    hint = "" if path.exists() else path_hint(spec.argument, path)
    if spec.source == "huggingface" and not path.exists() and not hint and _OF_THE_HUB.fullmatch(spec.argument):
        raise DataError(
            f"there is no folder {shown_path(path)}; if it is a data set of the hub, load it first: "
            f"hf download --repo-type dataset {spec.argument} --local-dir DIR, then huggingface:DIR"
        )
    if spec.source in ("parquet", "huggingface", "npy") and path.is_file() and path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path} is an archive: unpack it, and name what was in it")
    if spec.source in (*TABLES, "huggingface", "npy") and not path.exists():
        raise DataError(f"there is no file or directory {shown_path(path)}{hint}")
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise DataError(f"{shown_path(path)} is empty; if a share or a disk is mounted there, it is away")
