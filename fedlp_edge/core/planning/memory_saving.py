"""The ways to train a depth in less memory, in the order in which they are tried before depth is given up.

What costs nothing but time comes first, what changes results a little (batch normalisation over parts of a batch)
second, what computes twice last. ``fedlp_edge/learning/memory/allocator.py`` does them.
"""

from __future__ import annotations

from fedlp_edge.core.settings import MemorySaving, Technique, TrainingSettings

LEAST_MICRO_BATCH = 4
"""Batch normalisation over fewer samples than this is noise."""


def memory_saving_steps(training: TrainingSettings, techniques: tuple[Technique, ...]) -> tuple[MemorySaving, ...]:
    """The ways, from the quickest to the one that takes least memory.

    Args:
        training: whose batch size is divided; a way that is stated there is the only one.
        techniques: those that may be used.
    """
    if training.memory != MemorySaving():
        return (training.memory,)
    allocator = "exact" if "allocation" in techniques else "cached"
    sizes = [0, *(_halves(training.batch_size) if "accumulation" in techniques else ())]
    again = (False, True) if "checkpointing" in techniques else (False,)
    frugal = [MemorySaving(allocator, size, checkpointing) for checkpointing in again for size in sizes]  # type: ignore[arg-type]
    return tuple(dict.fromkeys([MemorySaving(), *frugal]))


def describe(memory_saving: MemorySaving) -> list[str]:
    """Words for people; none for the ordinary way."""
    words = []
    if memory_saving.allocator == "exact":
        words.append("memory given back at once")
    if memory_saving.micro_batch:
        words.append(f"batches in parts of {memory_saving.micro_batch}")
    if memory_saving.checkpointing:
        words.append("activations computed twice")
    return words


def _halves(batch_size: int) -> list[int]:
    sizes = []
    while (batch_size := batch_size // 2) >= LEAST_MICRO_BATCH:
        sizes.append(batch_size)
    return sizes
