"""Lists the ways to train a depth in less memory, in the order in which the planner tries them before less depth.

Exact allocation, which costs only time, comes first; then gradient accumulation, which changes batch normalisation
slightly; last activation checkpointing, which computes activations twice. ``learning/memory/allocator.py`` describes
them.
"""

from __future__ import annotations

from fedlp_edge.core.settings import MemorySaving, Technique, TrainingSettings

MIN_MICRO_BATCH = 4
"""Least samples of a micro-batch: batch normalisation over fewer samples is noise."""


def memory_saving_steps(training: TrainingSettings, techniques: tuple[Technique, ...]) -> tuple[MemorySaving, ...]:
    """Returns the ways to save memory, from the fastest one to the one that takes the least memory.

    Args:
        training: Training settings; memory saving that is set there is the only way.
        techniques: Techniques that may be used.
    """
    if training.memory != MemorySaving():
        return (training.memory,)
    allocator = "exact" if "allocation" in techniques else "cached"
    sizes = [0, *(_halves(training.batch_size) if "accumulation" in techniques else ())]
    again = (False, True) if "checkpointing" in techniques else (False,)
    saving = [MemorySaving(allocator, size, checkpointing) for checkpointing in again for size in sizes]  # type: ignore[arg-type]
    return tuple(dict.fromkeys([MemorySaving(), *saving]))


def describe(memory_saving: MemorySaving) -> list[str]:
    """Describes for people how memory is saved; empty if it is not."""
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
    while (batch_size := batch_size // 2) >= MIN_MICRO_BATCH:
        sizes.append(batch_size)
    return sizes
