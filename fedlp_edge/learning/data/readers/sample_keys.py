"""This module hashes samples, so that a part of them can be held out by what they are and not by where they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
"""Hashes of samples, uint64 [N]."""


def is_held_out(keys: Keys, share: float) -> npt.NDArray[np.bool_]:
    """Returns for each sample whether it is held out, bool [N].

    Args:
        keys: Hashes of the samples, uint64 [N].
        share: Share of all possible hashes whose samples are held out, below 1.
    """
    return keys < np.uint64(share * 2.0**64)


def is_in_test_split(keys: Keys, share: float) -> npt.NDArray[np.bool_]:
    """Returns for each sample of a source without a test split of its own whether it is in that split, bool [N].

    Other bits of the hash decide than in ``is_held_out``, so that a device which holds out a part of its train split
    finds as large a part there as in the whole source.

    Args:
        keys: Hashes of the samples, uint64 [N].
        share: Share of all possible hashes whose samples are in the test split, below 1.
    """
    return is_held_out(keys.byteswap(), share)


def keys_of_rows(x: npt.NDArray[np.generic]) -> Keys:
    """Returns a hash of the bytes of each row.

    Args:
        x: Samples as stored, [N, ...].
    """
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    return _hashes(row.tobytes() for row in rows)


def keys_of_names(names: Iterable[str]) -> Keys:
    """Returns a hash of each name, such as the path of a file."""
    return _hashes(name.encode("utf-8", "surrogateescape") for name in names)


def _hashes(contents: Iterable[bytes]) -> Keys:
    digests = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
