"""Randomness that depends on names and nothing else.

Every draw of a run derives from its seed and what the draw is for, through a hash. No generator state has
to be saved, a restarted coordinator draws the same cohort, and coordinator and device agree on which
layers are pruned without a word between them.
"""

from __future__ import annotations

import hashlib

_SEPARATOR = b"\x1f"  # the ASCII unit separator cannot occur in ids, so parts never run together


def derive(*parts: str | int) -> int:
    """A 63-bit number that looks random and is a function of ``parts`` alone."""
    joined = _SEPARATOR.join(str(part).encode() for part in parts)
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big") >> 1


def training_seed(seed: int, round: int, device: str) -> int:
    """Of the sample order and of whatever else is random in one round on one device."""
    return derive(seed, round, device, "train")


def head_seed(seed: int, device: str) -> int:
    """Of the first values of a device's personal heads, the same in every round."""
    return derive(seed, device, "personal head")


def uniform(*parts: str | int) -> float:
    """A number in [0, 1), a function of ``parts`` alone."""
    return (derive(*parts) >> 10) / 2**53
