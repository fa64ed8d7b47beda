"""Arrays as people have them, turned into what samples are kept as: unsigned bytes or finite float32.

Tensors and tables are known by their methods, not by their types, so that none of those libraries is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError

AnyArray = npt.NDArray[Any]

MOST_ONE_BY_ONE = 1_000_000
"""Samples that are taken from something that gives one after the other; what gives more may never end."""

_LABEL_KEYS = ("label", "labels", "target", "y")

_BLOCK = 1 << 22  # values that are converted together


def as_array(value: Any, what: str) -> AnyArray:
    """Numbers or words in numpy's form, from a list, a tensor, a table or a picture.

    Args:
        value: foreign.
        what: names it in errors.

    Raises:
        DataError: it is no array, or its samples have different shapes.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(f"{what} is masked, with {int(np.sum(value.mask))} values missing: fill or remove them")
    if isinstance(value, Mapping | str | bytes) or value is None:
        raise DataError(f"{what} is {_a(value)}, not an array")
    made = _by_its_own_method(value)
    if made.dtype.kind == "O" and made.ndim >= 1 and len(made):
        made = _numbers(_stacked(made if made.ndim == 1 else list(made), what))
    if made.ndim == 0:
        raise DataError(f"{what} is {_a(value)}, not an array")
    return made


def pairs_of(samples: Any, what: str) -> tuple[list[Any], list[Any]]:
    """Samples and labels of something that gives one pair after the other, such as a ``torch.utils.data.Dataset``.

    Raises:
        DataError: it gives something else, or does not end.
    """
    if hasattr(samples, "batch_sampler"):
        raise DataError(f"{what} is a DataLoader: return its .dataset")
    x, y = [], []
    for number, pair in enumerate(_one_by_one(samples)):
        if number == MOST_ONE_BY_ONE:
            raise DataError(f"{what} gives more than {MOST_ONE_BY_ONE:,} samples one by one: return arrays")
        if isinstance(pair, Mapping) and len(pair) == 2 and (named := [key for key in pair if key in _LABEL_KEYS]):
            pair = (next(value for key, value in pair.items() if key != named[0]), pair[named[0]])  # noqa: PLW2901
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{what} gives {_a(pair)} for sample {number}, not (sample, label)")
        x.append(pair[0])
        y.append(pair[1])
    return x, y


def check_samples(x: AnyArray, what: str) -> None:
    """Whether an array can hold samples: numbers, [N, ...].

    Raises:
        DataError: it cannot.
    """
    if x.dtype.names:
        fields = ", ".join(x.dtype.names)
        raise DataError(f"{what} is a structured array (fields {fields}): stack the fields into one array of numbers")
    if x.dtype.kind not in "buif":
        raise DataError(f"{what} must hold numbers, not {x.dtype}")
    if x.ndim < 2:
        raise DataError(f"{what} must be [N, ...], one row a sample, but it is {list(x.shape)}")
    if 0 in x.shape[1:]:
        raise DataError(f"{what} has samples without values: it is {list(x.shape)}")


def stored(x: AnyArray, what: str) -> AnyArray:
    """Unsigned bytes as they are, and other numbers as float32.

    Raises:
        DataError: a value is not finite, or too large for float32.
    """
    if x.dtype == np.uint8:
        return x
    made = np.empty(x.shape, np.float32)
    rows = max(1, _BLOCK // max(1, x[:1].size))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            made[start : start + rows] = part
        finite = np.isfinite(made[start : start + rows]).reshape(len(part), -1).all(axis=1)
        if not finite.all():
            worst = int(np.argmin(finite))
            words = "too large for float32" if np.isfinite(part[worst]).all() else "not finite (NaN or infinite)"
            raise DataError(f"{what} holds values that are {words}, the first in sample {start + worst}")
    return made


def _by_its_own_method(value: Any) -> AnyArray:
    if hasattr(value, "detach"):
        return _of_tensor(value)
    if hasattr(value, "getbands"):  # a Pillow picture: its channels come last
        pixels = np.asarray(value)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    for method in ("to_numpy", "toarray"):  # a table, a sparse matrix
        if hasattr(value, method):
            return np.asarray(getattr(value, method)())
    if isinstance(value, list | tuple) and value and (hasattr(value[0], "detach") or hasattr(value[0], "getbands")):
        return _objects(value)
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return _objects(value)


def _of_tensor(value: Any) -> AnyArray:
    """Of a tensor, perhaps with gradients, sparse, on a GPU, or of a type that numpy lacks."""
    tensor = value.detach()
    tensor = (tensor.to_dense() if getattr(tensor, "is_sparse", False) else tensor).cpu()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:
        return np.asarray(tensor.float().numpy())


def _objects(values: Iterable[Any]) -> AnyArray:
    listed = list(values)
    made = np.empty(len(listed), dtype=object)
    for number, value in enumerate(listed):
        made[number] = value
    return made


def _stacked(values: Any, what: str) -> AnyArray:
    """One array of the samples that a list or an array of objects holds, or the objects as they are."""
    if not any(isinstance(value, list | tuple | np.ndarray) or hasattr(value, "__array__") for value in values):
        return _objects(values)
    parts = [_by_its_own_method(value) for value in values]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        raise DataError(f"{what} holds samples of different shapes, {listed}: bring them to one")
    return np.stack(parts)


def _numbers(made: AnyArray) -> AnyArray:
    """Of a table whose columns have different types; what is no number in a row of numbers stays an object."""
    if made.dtype.kind == "O" and made.ndim > 1 and all(isinstance(value, Real | Decimal) for value in made.flat):
        return made.astype(np.float64)
    return made


def _one_by_one(samples: Any) -> Iterable[Any]:
    # By index as far as it says, as a Dataset need not raise IndexError at its end.
    if hasattr(samples, "__getitem__") and hasattr(samples, "__len__"):
        return (samples[number] for number in range(len(samples)))
    iterable: Iterable[Any] = samples if hasattr(samples, "__iter__") else [samples]
    return iterable


def _a(value: Any) -> str:
    if value is None:
        return "nothing (None)"
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
