"""This module converts users' arrays, tensors, tables and pictures to unsigned bytes or finite float32.

Tensors and tables are recognised by their methods, not by their types, so that none of their libraries is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError

AnyArray = npt.NDArray[Any]

MAX_ONE_BY_ONE = 1_000_000
"""Most samples that are read one by one from an iterable, because an iterable that yields more may never end."""

SAMPLE_KEYS = ("x", "images", "data", "features", "inputs", "arr_0")
"""Usual names of an array of samples; ``numpy.savez`` calls the first one without a name ``arr_0``."""

LABEL_KEYS = ("y", "labels", "label", "targets", "target", "outputs", "arr_1")
"""Usual names of an array of labels."""

_BLOCK = 1 << 22  # values that are converted together


def as_array(value: Any, what: str) -> AnyArray:
    """Converts a list, a tensor, a table or a picture of the user's to a numpy array of numbers or text.

    Args:
        value: Object of the user's code, of any type.
        what: Name of the object in messages.

    Raises:
        DataError: The value cannot be converted, has masked entries, or its samples have different shapes.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(f"{what} is masked, with {int(np.sum(value.mask))} values missing: fill or remove them")
    if isinstance(value, Mapping | str | bytes) or value is None:
        raise DataError(f"{what} is {_type_name(value)}, not an array")
    made = _to_numpy(value)
    if made.dtype.kind == "O" and made.ndim >= 1 and len(made):
        made = _numbers(_stacked(made if made.ndim == 1 else list(made), what))
    if made.ndim == 0:
        raise DataError(f"{what} is {_type_name(value)}, not an array")
    return made


def pairs_of(samples: Any, what: str) -> tuple[list[Any], list[Any]]:
    """Reads all samples and labels from a sequence or iterable of pairs, such as a ``torch.utils.data.Dataset``.

    Args:
        samples: Object of the user's code that yields (sample, label) pairs.
        what: Name of the object in messages.

    Returns:
        Samples and labels, two lists of one length.

    Raises:
        DataError: The object is a DataLoader, yields something else than pairs, or yields too many of them.
    """
    if hasattr(samples, "batch_sampler"):
        raise DataError(f"{what} is a DataLoader: return its .dataset")
    x, y = [], []
    for number, pair in enumerate(_one_by_one(samples)):
        if number == MAX_ONE_BY_ONE:
            raise DataError(f"{what} gives more than {MAX_ONE_BY_ONE:,} samples one by one: return arrays")
        sample, label = sample_and_label(pair, what, number)
        x.append(sample)
        y.append(label)
    return x, y


def sample_and_label(pair: Any, what: str, number: int) -> tuple[Any, Any]:
    """Takes apart what a data set of the user's gives for one index: a pair, or a mapping of a sample and a label.

    Args:
        pair: Object of the user's code.
        what: Name of the data set in messages.
        number: Index of the sample.

    Raises:
        DataError: It is neither.
    """
    if isinstance(pair, Mapping) and len(pair) == 2:
        key = next((key for key in pair if key in LABEL_KEYS), None)
        if key is not None:
            return next(other for name, other in pair.items() if name != key), pair[key]
    if isinstance(pair, tuple | list) and len(pair) == 2:
        return pair[0], pair[1]
    raise DataError(f"{what} gives {_parts_of(pair)} for sample {number}, not (sample, label)")


def check_samples(x: AnyArray, what: str) -> None:
    """Checks that an array can hold samples.

    Args:
        x: Array that should be [N, ...] and hold numbers.
        what: Name of the array in messages.

    Raises:
        DataError: The array has no numbers, has fewer than two dimensions, or its samples are empty.
    """
    if x.dtype.names:
        fields = ", ".join(x.dtype.names)
        raise DataError(f"{what} is a structured array (fields {fields}): stack the fields into one array of numbers")
    if x.dtype.kind not in "buif":
        raise DataError(f"{what} must hold numbers, {_no_number(x)}")
    if x.ndim < 2:
        raise DataError(f"{what} must be [N, ...], one row a sample, but it is {list(x.shape)}")
    if 0 in x.shape[1:]:
        raise DataError(f"{what} has samples without values: it is {list(x.shape)}")


def stored(x: AnyArray, what: str) -> AnyArray:
    """Converts samples to the type in which they are stored: unsigned bytes unchanged, other numbers as float32.

    Args:
        x: Samples, [N, ...].
        what: Name of the samples in messages.

    Raises:
        DataError: A value is not finite, or too large for float32.
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
            problem = "too large for float32" if np.isfinite(part[worst]).all() else "not finite (NaN or infinite)"
            raise DataError(f"{what} holds values that are {problem}, the first in sample {start + worst}")
    return made


def _to_numpy(value: Any) -> AnyArray:
    if hasattr(value, "detach"):
        return _from_tensor(value)
    if _is_picture(value):  # its channels come last
        pixels = np.asarray(value)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    for method in ("to_numpy", "toarray"):  # a table, a sparse matrix
        if hasattr(value, method):
            return np.asarray(getattr(value, method)())
    # A column of Hugging Face's datasets is a sequence, and no list.
    if isinstance(value, Sequence) and len(value) and (hasattr(value[0], "detach") or _is_picture(value[0])):
        return _objects(value)
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return _objects(value)


def _is_picture(value: Any) -> bool:
    """Tells whether a value is a Pillow picture."""
    return hasattr(value, "getbands")


def _from_tensor(value: Any) -> AnyArray:
    """Converts a tensor, which may have gradients, be sparse, be on a GPU, or have a type that numpy lacks."""
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
    """Stacks the samples in a list or an array of objects into one array; objects that are no samples stay objects."""
    # Pillow pictures have no method __array__.
    if not any(isinstance(v, list | tuple | np.ndarray) or hasattr(v, "__array__") or _is_picture(v) for v in values):
        return _objects(values)
    parts = [_to_numpy(value) for value in values]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        raise DataError(f"{what} holds samples of different shapes, {listed}: bring them to one")
    return np.stack(parts)


def _numbers(made: AnyArray) -> AnyArray:
    """Converts a table with columns of different number types to float64; a table with other objects is unchanged."""
    if made.dtype.kind == "O" and made.ndim > 1 and all(isinstance(value, Real | Decimal) for value in made.flat):
        return made.astype(np.float64)
    return made


def _no_number(x: AnyArray) -> str:
    """Returns what an array holds that is no number, and where."""
    if x.dtype.kind not in "OUS" or not x.size:
        return f"not {x.dtype}"
    index = next((i for i, value in np.ndenumerate(x) if not isinstance(value, Real | Decimal)), (0,) * x.ndim)
    place = f" at {list(index[1:])}" if x.ndim > 1 else ""
    remedy = "give each text a number, or fill gaps, or leave such columns and rows out"
    return f"but it holds {str(x[index])[:40]!r} in sample {index[0]}{place}: {remedy}"


def _one_by_one(samples: Any) -> Iterable[Any]:
    # A sequence is read by index up to its length, as a Dataset need not raise IndexError at its end.
    if hasattr(samples, "__getitem__") and hasattr(samples, "__len__"):
        return (samples[number] for number in range(len(samples)))
    iterable: Iterable[Any] = samples if hasattr(samples, "__iter__") else [samples]
    return iterable


def _parts_of(value: Any) -> str:
    """Returns a type's name with what a mapping or tuple holds, as a tokenizer gives more than a sample and a label."""
    if isinstance(value, Mapping):
        return f"{_type_name(value)} of {', '.join(map(str, value))}"
    return _type_name(value) + (f" of {len(value)}" if isinstance(value, tuple | list) else "")


def _type_name(value: Any) -> str:
    if value is None:
        return "nothing (None)"
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
