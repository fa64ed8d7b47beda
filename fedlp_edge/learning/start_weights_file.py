"""Finds the file of start weights and its digest, without torch, so that services can ask."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.start_weights import RUN, StartWeights, source_kind
from fedlp_edge.errors import StartWeightsError
from fedlp_edge.system.directories import expand_user, is_there
from fedlp_edge.system.path_hints import run_hint

_CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"(?P<name>round-(?P<round>[0-9]{5,}))\.safetensors")
"""Where ``storage`` keeps the models of a run, and what it calls them; learning does not stand on storage."""

_INDEX = ".index.json"
_PART = re.compile(r"-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5})\.")
"""What Hugging Face's libraries call the files of a model in parts: ``model-00001-of-00003.safetensors``."""


def locate(source: str) -> Path | None:
    """Returns the file that ``[model] weights`` names; None for torchvision's own, which torchvision fetches.

    Args:
        source: As the configuration says it; a relative path is one from the working directory.

    Raises:
        StartWeightsError: There is no such file, or the run has no checkpoint.
    """
    kind = source_kind(source)
    if kind == "torchvision":
        return None
    if kind == "file":
        path = expand_user(source)
        try:
            is_there(path)  # for its errors
        except OSError as error:
            raise StartWeightsError(f"{path} cannot be read: {error.strerror}") from None
        if path.is_dir():
            raise StartWeightsError(f"{path} is a folder; name {_file_in(path)}, or an earlier run as {RUN}{path}")
        if not path.is_file():
            raise StartWeightsError(f"there is no file {path}")
        return path
    run = expand_user(source.removeprefix(RUN))
    try:
        model = _final_model([path.name for path in (run / _CHECKPOINTS).iterdir()], _best_round(run))
    except OSError:
        model = None
    if model is None:
        raise StartWeightsError(f"{run} holds no checkpoint{run_hint(run)}")
    return run / _CHECKPOINTS / model


class _Index(msgspec.Struct, frozen=True):
    """What counts here of an index: the file of each tensor, by its name."""

    weight_map: dict[str, str]


class _Final(msgspec.Struct, frozen=True):
    round: int = 0
    metric: str = ""


class _Summary(msgspec.Struct, frozen=True):
    """What counts here of a run's ``summary.json``, whose keys docs/run-directory.md describes."""

    final: _Final | None = None


def _best_round(run: Path) -> int | None:
    """Returns the round whose model a finished run has chosen as its best; None if it wanted the last one."""
    try:
        final = msgspec.json.decode((run / "summary.json").read_bytes(), type=_Summary).final
    except (OSError, msgspec.MsgspecError):
        return None  # the run has not ended, or another version wrote it
    return final.round if final is not None and final.metric else None


def _final_model(names: Iterable[str], best: int | None) -> str | None:
    """Returns the model that a run ends with among its checkpoints, its running average if there is one.

    Args:
        names: Names of the files.
        best: Round that the run has chosen; None for the last one.

    Returns:
        Name of the file; None if there is none.
    """
    known = set(names)
    rounds = {int(found["round"]): found["name"] for name in known if (found := _CHECKPOINT.fullmatch(name))}
    if not rounds:
        return None
    chosen = rounds.get(max(rounds) if best is None else best, rounds[max(rounds)])
    average = f"{chosen}.ema.safetensors"
    return average if average in known else f"{chosen}.safetensors"


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file; of an index the one of its parts' digests, line by line.

    Raises:
        StartWeightsError: It, or a part, cannot be read.
    """
    if is_index(path):
        return hashlib.sha256("".join(f"{file_digest(part)}\n" for part in parts_of(path)).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartWeightsError(f"{path} cannot be read: {error.strerror}") from None


def is_index(path: Path) -> bool:
    """Whether a file is an index, as Hugging Face's libraries write it beside weights in several files."""
    return path.name.lower().endswith(_INDEX)


def parts_of(path: Path) -> list[Path]:
    """Returns the files that an index names, in the order of their names.

    Raises:
        StartWeightsError: The index cannot be read, or a file that it names is not beside it.
    """
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
    except OSError as error:
        raise StartWeightsError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise StartWeightsError(f"{path} is no index of weights, which has a weight_map of names to files") from None
    names = sorted(set(index.weight_map.values()))
    # An index comes from elsewhere, and is not to name files of other folders.
    if not names or (outside := next((name for name in names if Path(name).name != name), None)) is not None:
        raise StartWeightsError(f"{path} names {outside if names else 'no file'}; it must name files beside it")
    if missing := [name for name in names if not (path.parent / name).is_file()]:
        raise StartWeightsError(
            f"{path} names {len(names)} files, of which {len(missing)} are missing, such as {missing[0]}: fetch all"
        )
    return [path.parent / name for name in names]


def check_whole(path: Path) -> None:
    """Checks that a file is not one of several that hold a model together.

    Raises:
        StartWeightsError: It is one by its name, as Hugging Face's libraries write it.
    """
    if (part := _PART.search(path.name)) is not None and int(part["of"]) > 1:
        raise StartWeightsError(
            f"{path} is part {int(part['number'])} of {int(part['of'])}: name the {_INDEX[1:]} beside it"
        )


def _file_in(directory: Path) -> str:
    """Returns what to name in a folder, for people."""
    names = sorted(path.name for path in directory.iterdir() if path.is_file())
    usual = [name for name in names if is_index(Path(name))] + [
        name for name in names if name.endswith((".safetensors", ".pt", ".pth", ".bin", ".ckpt"))
    ]
    return f"a file in it, such as {directory / usual[0]}" if usual else "a file in it"


def with_digest(settings: ModelSettings, earlier: ModelSettings | None = None) -> ModelSettings:
    """Returns the settings with the digest of the file of start weights, which decides whether two runs are the same.

    Args:
        settings: Settings of a model.
        earlier: Settings that a run was started with; a file that they name as well may be gone by now.

    Raises:
        StartWeightsError: The file is missing, or is not the one whose digest the settings state.
    """
    if not settings.weights:
        return settings
    try:
        path = locate(settings.weights)
        digest = settings.weights_sha256 if path is None else file_digest(path)
    except StartWeightsError:
        if earlier is None or earlier.weights != settings.weights or not earlier.weights_sha256:
            raise
        digest = earlier.weights_sha256
    if settings.weights_sha256 not in ("", digest):
        raise StartWeightsError(
            f"{settings.weights} has the SHA-256 {digest}, not {settings.weights_sha256} as weights_sha256 says"
        )
    return msgspec.structs.replace(settings, weights_sha256=digest)


def start_weights_of(settings: ModelSettings) -> StartWeights | None:
    """Returns the start weights that settings name, with the absolute path of their file; None if they name none.

    Raises:
        StartWeightsError: The file is missing.
    """
    if not settings.weights:
        return None
    path = locate(settings.weights)
    found = "" if path is None else str(path.absolute())
    return StartWeights(settings.weights, found, settings.weights_sha256, settings.reset_heads)
