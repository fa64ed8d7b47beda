"""The ways to train a depth in less memory, in the order in which they are tried before depth is given up.

What costs nothing but time comes first, what changes results a little (batch normalisation over parts of a batch)
second, what computes twice last. ``fedlp_edge/learning/frugal.py`` does them.
"""

from __future__ import annotations

from fedlp_edge.core.settings import Lever, Thrift, TrainingSettings

LEAST_MICRO_BATCH = 4
"""Batch normalisation over fewer samples than this is noise."""


def ladder(training: TrainingSettings, levers: tuple[Lever, ...]) -> tuple[Thrift, ...]:
    """The ways, from the quickest to the one that takes least memory.

    Args:
        training: whose batch size is divided; a thrift that is stated there is the only way.
        levers: those that may be used.
    """
    if training.thrift != Thrift():
        return (training.thrift,)
    allocation = "exact" if "allocation" in levers else "roomy"
    sizes = [0, *(_halves(training.batch_size) if "accumulation" in levers else ())]
    again = (False, True) if "checkpointing" in levers else (False,)
    frugal = [Thrift(allocation, size, checkpointing) for checkpointing in again for size in sizes]  # type: ignore[arg-type]
    return tuple(dict.fromkeys([Thrift(), *frugal]))


def describe(thrift: Thrift) -> list[str]:
    """Words for people; none for the ordinary way."""
    words = []
    if thrift.allocation == "exact":
        words.append("memory given back at once")
    if thrift.micro_batch:
        words.append(f"batches in parts of {thrift.micro_batch}")
    if thrift.checkpointing:
        words.append("activations computed twice")
    return words


def _halves(batch_size: int) -> list[int]:
    sizes = []
    while (batch_size := batch_size // 2) >= LEAST_MICRO_BATCH:
        sizes.append(batch_size)
    return sizes
