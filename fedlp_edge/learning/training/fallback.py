"""What happens when a fast way of training fails: the round is trained again in a plainer way, in the same task.

Fast ways are optional by nature. Another number format, another memory layout, a fused kernel or a technique that saves
memory is right only as long as the library beneath supports it on this processor, for this model and for every size of
a batch, and no trial sees all of that. So none of them may cost a device its round: whatever goes wrong in one is tried
once more without it, from the same start with the same seed, and what is learned is what the plain way would have
learned in the first place. What fails in the plain way as well is the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from fedlp_edge.core.settings import ComputeMode, MemorySaving, TrainingSettings
from fedlp_edge.errors import OperatorError, PeerError
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.training.loop import DivergedError

T = TypeVar("T")

_MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Execution:
    """One way to compute a round.

    Attributes:
        compute: number format and memory layout.
        memory_saving: how memory is saved.
        fused: whether the optimizer may use fused kernels.
    """

    compute: ComputeMode = "float32"
    memory_saving: MemorySaving = field(default_factory=MemorySaving)
    fused: bool = True

    def of(self, training: TrainingSettings) -> TrainingSettings:
        """The settings of a round that is computed this way."""
        return msgspec.structs.replace(training, compute=self.compute, memory=self.memory_saving)


@dataclass(frozen=True, slots=True)
class Setback:
    """A way that failed.

    Attributes:
        execution: the way.
        reason: one line.
        memory: whether memory ran out.
        spoils: whether it spoils the process for others, see `memory.spoils_the_process`.
    """

    execution: Execution
    reason: str
    memory: bool
    spoils: bool = False


def trained(
    execution: Execution, attempt: Callable[[Execution], T], *, limited: bool = False
) -> tuple[T, Execution, tuple[Setback, ...]]:
    """Trains a round, in a plainer way where the one that is asked for fails.

    Args:
        execution: the first way to try.
        attempt: trains the whole round from its start in a given way; does so again when it is called again.
        limited: whether memory is limited, see `memory.is_out_of_memory`.

    Returns:
        What ``attempt`` returned, the way in which it did, and the ways that failed before.

    Raises:
        Exception: what ``attempt`` raised in the plainest way, or for a cause that no other way mends.
    """
    setbacks: list[Setback] = []
    while True:
        try:
            return attempt(execution), execution, tuple(setbacks)
        except Exception as error:  # whatever a library raises
            short = limits.is_out_of_memory(error, limited=limited)
            following = plainer(execution, short=short, diverged=isinstance(error, DivergedError | PeerError))
            if following is None or (isinstance(error, OperatorError) and not short):
                raise
            setbacks.append(Setback(execution, reason_of(error), short, limits.spoils_the_process(error)))
        # Only here, where the error no longer holds on to what the attempt had in its hands.
        limits.give_back()
        execution = following


def plainer(execution: Execution, *, short: bool, diverged: bool = False) -> Execution | None:
    """The next way to try where one has failed; None if there is none.

    Args:
        execution: the way that failed.
        short: whether memory ran out: then what saves memory stays, and only what takes it goes.
        diverged: whether what was learned is no number, or not acceptable, which no optimizer's kernel is to blame for.
    """
    if execution.compute != "float32":
        return replace(execution, compute="float32")
    allocator = execution.memory_saving.allocator
    if short:
        if allocator == "exact":
            return None
        return replace(
            execution,
            memory_saving=MemorySaving(
                "exact", execution.memory_saving.micro_batch, execution.memory_saving.checkpointing
            ),
        )
    plain = Execution(memory_saving=MemorySaving(allocator), fused=execution.fused and diverged)
    return plain if plain != execution else None


def reason_of(error: Exception) -> str:
    """What went wrong, in one line for people."""
    if isinstance(error, DivergedError):
        return "its loss is not a number"
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")[:_MAX_REASON]


def describe(failed: Execution, used: Execution) -> tuple[str, str]:
    """What of a way was given up, and what is done instead, for people."""
    given_up: list[str] = []
    instead: list[str] = []
    if failed.compute != used.compute:
        given_up.append(failed.compute)
        instead.append(used.compute)
    if failed.memory_saving.checkpointing and not used.memory_saving.checkpointing:
        given_up.append("checkpointing")
    if failed.memory_saving.micro_batch and not used.memory_saving.micro_batch:
        given_up.append("gradient accumulation")
    if failed.memory_saving.allocator != used.memory_saving.allocator:
        given_up.append(f"{failed.memory_saving.allocator} allocation")
        instead.append(f"{used.memory_saving.allocator} allocation")
    if failed.fused and not used.fused:
        given_up.append("the fused optimizer")
        instead.append("a plain optimizer")
    return " and ".join(given_up), " and ".join(instead) or f"plain {used.compute}"
