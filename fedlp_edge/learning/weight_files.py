"""Reads the weights that people keep in files: safetensors, and what ``torch.save`` writes, of which tensors alone.

A ``.pt`` file is a pickle, and a pickle can run any code when it is read. ``torch.load(weights_only=True)`` reads
tensors and plain containers and refuses the rest, and nothing else reads such a file here. Training scripts put their
best score (a number of numpy) and their arguments (``argparse.Namespace``) beside the weights: these hold values and
run nothing, so they are read, too.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.start_weights_file import check_whole, is_index, parts_of

_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
_ZIP = b"PK\x03\x04"
_SAFETENSORS = re.compile(rb'.{8}\{\s*"', re.DOTALL)
"""Beginning of a safetensors file: the length of its header, and the header, which is JSON."""
_CLASS = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
_VALUES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What else a pickle may hold: classes of values, and the names of the function that makes a number of numpy."""

_NAMELESS = re.compile(r"arr_\d+")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
"""Keys under which training scripts, DDP and Lightning put a model's state beside other things, in order."""
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "params_ema", "ema", "ema_model")
"""Keys of a running average of the states, which is taken before the last state, as of a run of ours."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file by name, on the CPU, as the file has them.

    Sparse and quantised tensors become ordinary ones.

    Args:
        path: File that ends in ``.safetensors``, ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` or ``.pth.tar``; or the
            ``.index.json`` of several, which are read together.

    Raises:
        StartWeightsError: The file is missing or damaged, holds code, or holds no tensors by name; or it is a part of
            a model.
    """
    if is_index(path):
        return {name: value for part in parts_of(path) for name, value in _read_file(part).items()}
    check_whole(path)
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Tensor]:
    name = path.name.lower()
    if not name.endswith((".safetensors", ".npz", *_PICKLES)):
        read = ", ".join((".safetensors", ".npz", *_PICKLES, ".index.json"))
        raise StartWeightsError(f"{path} is no file of weights: {read} are read")
    start = _checked_start(path)
    if name.endswith(".npz"):
        return _arrays_in(path)
    # What a file holds decides, not its name: people and download scripts rename them.
    if _SAFETENSORS.match(start) or (name.endswith(".safetensors") and not start.startswith(_ZIP)):
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise StartWeightsError(f"{path} cannot be read as safetensors: {_first_line(error)}") from None
    return {name: _plain(value, name, path) for name, value in _state_in(_unpickled(path), path).items()}


def _arrays_in(path: Path) -> dict[str, Tensor]:
    """Returns the arrays of a NumPy archive by name; objects in it are never loaded."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            held = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind in "fiub"}
    except Exception as error:  # a damaged archive fails in zipfile, zlib, ast, struct ...
        raise StartWeightsError(f"{path} cannot be read as weights: {_first_line(error)}") from None
    if not held or all(_NAMELESS.fullmatch(name) for name in held):
        raise StartWeightsError(
            f"{path} holds {len(held)} arrays without names: save them with those of the state_dict, as "
            "numpy.savez(FILE, **{name: value.numpy() for name, value in model.state_dict().items()})"
        )
    return held


def _checked_start(path: Path) -> bytes:
    """Returns the first bytes of a file that is not what a download or a checkout leaves in the place of weights."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise StartWeightsError(f"{path} cannot be read: {error.strerror}") from None
    start = head.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise StartWeightsError(f"{path} is a pointer of Git LFS: fetch the file with git lfs pull")
    if start.startswith((b"<!doctype", b"<html")):
        raise StartWeightsError(f"{path} is a web page: download the file itself")
    return head


def _plain(value: Tensor, name: str, path: Path) -> Tensor:
    if value.is_meta:
        raise StartWeightsError(f"{name} in {path} has a shape and no values (it was saved from the meta device)")
    value = value.dequantize() if value.is_quantized else value
    return value.to_dense() if value.layout != torch.strided else value


def _unpickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error says the same of TorchScript
            # By its name, torch would take some files for safetensors.
            with path.open("rb") as file, torch.serialization.safe_globals(_VALUES):
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "global" not in str(error).lower():
            raise StartWeightsError(f"{path} is damaged, or was not written by torch.save") from None
        found = _CLASS.search(str(error))
        what = f"such as {found[1]}" if found else "such as code"
        raise StartWeightsError(
            f"{path} is a pickle that holds more than tensors, {what}, and is not read: where you trust it, "
            "write its tensors alone, as torch.save(model.state_dict(), FILE) or as safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        what = "TorchScript, of which the state_dict is needed" if "TorchScript" in str(error) else _first_line(error)
        if "central directory" in what or isinstance(error, EOFError):
            what = "it is damaged or cut short: copy it again"
        raise StartWeightsError(f"{path} cannot be read as weights: {what}") from None


def _state_in(value: object, path: Path) -> dict[str, Tensor]:
    """Returns the tensors by name that a file's object is, or holds under a usual key or under one alone."""
    inner: Any = value
    while isinstance(inner, Mapping):
        states = {str(key): item for key, item in inner.items() if _holds_tensors(item)}
        tensors = {str(name): item for name, item in inner.items() if isinstance(item, Tensor)}
        # A number beside it, such as the epoch, may be a tensor, too.
        if (usual := next((key for key in (*AVERAGES, *_WRAPPERS) if key in states), None)) is not None:
            inner = states[usual]
        elif tensors:
            return tensors
        elif len(states) > 1:
            raise StartWeightsError(
                f"{path} holds several models ({', '.join(states)[:200]}): save the state_dict of the one to start from"
            )
        else:
            inner = next(iter(states.values()), None)
    held = f"a {type(value).__name__}" if not isinstance(value, Mapping) else f"the keys {', '.join(map(str, value))}"
    raise StartWeightsError(f"{path} holds no tensors by name, but {held[:200]}; save model.state_dict()")


def _holds_tensors(value: object) -> bool:
    """Whether an object is a model's state, or holds one somewhere below; an optimizer's has numbers for names."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and (isinstance(item, Tensor) or _holds_tensors(item)) for name, item in value.items()
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
