"""Derives random numbers from names with a hash.

Every draw is a function of the seed of the run and of what the draw is for. No generator state has to be saved, a
restarted coordinator draws the cohort that it drew before, and coordinator and device know which layers are withheld
without a message.
"""

from __future__ import annotations

import hashlib

_SEPARATOR = b"\x1f"  # The ASCII unit separator cannot occur in ids, so that no two lists of parts are joined alike.


def derive(*parts: str | int) -> int:
    """Returns a 63-bit pseudo-random number that is a function of ``parts`` alone."""
    joined = _SEPARATOR.join(str(part).encode() for part in parts)
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big") >> 1


def training_seed(seed: int, round: int, device: str) -> int:
    """Returns the seed of the sample order, and of everything else that is random in one round on one device."""
    return derive(seed, round, device, "train")


def head_seed(seed: int, device: str) -> int:
    """Returns the seed of the initial values of a device's personal heads, which does not depend on the round."""
    return derive(seed, device, "personal head")


def uniform(*parts: str | int) -> float:
    """Returns a pseudo-random number in [0, 1) that is a function of ``parts`` alone."""
    return (derive(*parts) >> 10) / 2**53
