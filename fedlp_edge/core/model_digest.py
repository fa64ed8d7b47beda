"""The global model as named float32 arrays, and the one digest that says whether two are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def model_digest(weights: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """SHA-256 over names, shapes and little-endian float32 bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name}\0{array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
