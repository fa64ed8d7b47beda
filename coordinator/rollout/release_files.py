"""Finds the files of a release, in the directory of a run or in one that ``fedlp export`` has written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.core.metric_names import BETTER
from fedlp_edge.core.model_card import CARD_FILE, ModelCard, decode_card
from fedlp_edge.errors import OperatorError, ReleaseError
from fedlp_edge.release.onnx_tensors import files_of_weights
from fedlp_edge.system.directories import make_directory
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.wire.digests import digest_of, digest_of_file

SELF_TEST_SUFFIX = ".selftest.npz"
_NAME = re.compile(r"-(?:depth-|d)([1-9][0-9]{0,3})(?:-(fp16|int8))?\.onnx\Z")
_SELF_TEST_SECONDS = 600.0


@dataclass(frozen=True)
class ReleaseFile:
    """One ONNX file of a release.

    Attributes:
        path: Path of the file.
        depth: Depth of the model.
        precision: How its numbers are stored.
        digest: BLAKE3 digest of the file.
        size: Bytes of the file.
        memory: Bytes that answering takes, as far as the card of the files says; 0 if it does not.
        early_exit: Whether the file stops at the first exit that is sure.
        value: What the file is worth, as the card says; None if it does not.
        warning: What the export warned of, as the card says; empty for nothing.
        higher: Whether a higher value is a better one.
        weights_file: Name of the file beside it that its weights stand in; empty if they stand in it. Devices get one
            file, so such a one cannot be handed out.
    """

    path: Path
    depth: int
    precision: str
    digest: str
    size: int
    memory: int = 0
    early_exit: bool = False
    value: float | None = None
    warning: str = ""
    higher: bool = True
    weights_file: str = ""


def find_release(source: Path) -> tuple[ReleaseFile, ...]:
    """Lists the ONNX files of a directory that can be handed out, shallowest first.

    Args:
        source: Directory of a run, or of exported files.

    Raises:
        OperatorError: There is no such directory, none of its files says which depth it is of, or none is one file.
    """
    files = list_files(source)
    found = tuple(file for file in files if not file.weights_file)
    if not found:
        raise OperatorError(two_files_line(files[0]))
    return found


def two_files_line(file: ReleaseFile) -> str:
    """Returns why a file whose weights stand in a second one is not handed out, and what can be."""
    return (
        f"{file.path.name} keeps its weights in {file.weights_file}, and a device gets one file: "
        "use --precision fp16 or int8, or --depth N with a smaller depth"
    )


def list_files(source: Path) -> tuple[ReleaseFile, ...]:
    """Lists the ONNX files of a directory, shallowest first.

    Args:
        source: Directory of a run, or of exported files.

    Raises:
        OperatorError: There is no such directory, or none of its files says which depth it is of.
    """
    directory = source / "onnx" if (source / "journal.sqlite").is_file() else source
    if not directory.is_dir():
        raise OperatorError(f"{source} is no directory; name that of a run, or one that fedlp export has written")
    card = _card_of(directory)
    entries = {} if card is None else {entry.file: entry for entry in card.files}
    files = []
    for path in sorted(directory.glob("*.onnx")):
        named, entry = _NAME.search(path.name), entries.get(path.name)
        if entry is None and (named is None or card is not None):
            continue  # a card lists all that is meant to be used
        digest = digest_of_file(path)
        if entry is not None and digest != entry.blake3:
            raise OperatorError(f"{path} is not the file that {CARD_FILE} describes; export it again")
        files.append(
            ReleaseFile(
                path,
                depth=entry.depth if entry is not None else int(named[1]) if named else 1,
                precision=entry.precision if entry is not None else (named[2] if named and named[2] else "fp32"),
                digest=digest,
                size=path.stat().st_size,
                memory=entry.cost.memory if entry is not None and entry.cost is not None else 0,
                early_exit=bool(entry is not None and entry.exits),
                value=entry.value if entry is not None else None,
                warning=entry.warning if entry is not None else "",
                higher=card is None or BETTER.get(card.metric, "higher") == "higher",
                weights_file=_weights_file_of(path),
            )
        )
    if not files:
        raise OperatorError(f"{directory} holds no ONNX file of a known depth; write some with fedlp export")
    return tuple(sorted(files, key=lambda file: (file.depth, file.precision)))


def release_name(files: Sequence[ReleaseFile], source: Path) -> str:
    """Returns the name of a release: that of its directory, and a digest of what its files hold."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.resolve().name).lstrip("._-")[:48] or "release"
    digest = digest_of("".join(file.digest for file in files).encode())
    return f"{stem}-{digest[:8]}"


def self_test_of(file: ReleaseFile, directory: Path) -> Path:
    """Returns the path of a file's self-test, which is made if it does not stand beside the file.

    Args:
        file: File of the release.
        directory: Directory for a self-test that is made.

    Raises:
        OperatorError: The file cannot be run here, so nobody knows what it should answer.
    """
    name = file.path.name.removesuffix(".onnx") + SELF_TEST_SUFFIX
    beside = file.path.with_name(name)
    if beside.is_file():
        return beside
    path = make_directory(directory, "--out") / f"{file.digest[:16]}-{name}"
    if not path.is_file():
        command = [sys.executable, "-P", "-m", "fedlp_edge.learning.export.self_test", str(file.path), str(path)]
        done = subprocess.run(
            [*command, file.precision],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SELF_TEST_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise OperatorError(f"{file.path} has no self-test, and none can be made: {said}")
    return path


def _weights_file_of(path: Path) -> str:
    try:
        return next(iter(files_of_weights(mapped(path))), "")
    except ReleaseError:  # no ONNX file at all, which devices find out in the exam
        return ""


def _card_of(directory: Path) -> ModelCard | None:
    path = directory / CARD_FILE
    return decode_card(path.read_bytes(), str(path)) if path.is_file() else None
