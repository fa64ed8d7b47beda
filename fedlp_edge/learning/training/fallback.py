"""Trains a round again in a plainer execution if a fast one fails, within the same task.

Number formats, memory layouts, fused kernels and memory saving are optional: each works only if the library supports
it on this processor, for this model and for every batch size, and no trial covers all of that. A failure in one of
them must not cost a device its round. So the round is trained again without it, from the same weights with the same
seed, and learns what the plain execution would have learned at once. Only a failure of the plain execution fails the
task.
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
"""Most characters of a reason."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How a round is computed.

    Attributes:
        compute: Compute mode: number format and memory layout.
        memory_saving: Techniques that save memory.
        fused: Whether the optimizer may use fused kernels.
    """

    compute: ComputeMode = "float32"
    memory_saving: MemorySaving = field(default_factory=MemorySaving)
    fused: bool = True

    def of(self, training: TrainingSettings) -> TrainingSettings:
        """Returns the settings of a round that is computed like this."""
        return msgspec.structs.replace(training, compute=self.compute, memory=self.memory_saving)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An execution that failed.

    Attributes:
        execution: Failed execution.
        reason: Cause in one line, for people.
        memory: Whether memory ran out.
        requires_new_process: Whether a new process must do the next job; see `limits.requires_new_process`.
    """

    execution: Execution
    reason: str
    memory: bool
    requires_new_process: bool = False


def train_with_fallbacks(
    execution: Execution, attempt: Callable[[Execution], T], *, limited: bool = False
) -> tuple[T, Execution, tuple[FailedAttempt, ...]]:
    """Trains a round, and trains it again in plainer executions as long as they fail.

    Args:
        execution: Execution to try first.
        attempt: Function that trains the whole round from its start in an execution; it can be called repeatedly.
        limited: Whether memory is limited; see `fedlp_edge.learning.memory.limits.is_out_of_memory`.

    Returns:
        The result of ``attempt``, the execution that succeeded, and those that failed before it.

    Raises:
        Exception: ``attempt`` failed in the plainest execution, or for a cause that no other execution removes.
    """
    failed_attempts: list[FailedAttempt] = []
    while True:
        try:
            return attempt(execution), execution, tuple(failed_attempts)
        except Exception as error:  # A library may raise anything.
            short = limits.is_out_of_memory(error, limited=limited)
            following = fallback_for(execution, short=short, diverged=isinstance(error, DivergedError | PeerError))
            if following is None or (isinstance(error, OperatorError) and not short):
                raise
            failed_attempts.append(
                FailedAttempt(execution, reason_of(error), short, limits.requires_new_process(error))
            )
        # Not in the except block, where the traceback still refers to the tensors of the attempt.
        limits.trim_heap()
        execution = following


def fallback_for(execution: Execution, *, short: bool, diverged: bool = False) -> Execution | None:
    """Returns the execution to try after a failed one; None if there is none.

    Args:
        execution: Failed execution.
        short: Whether memory ran out; memory saving then stays, and only what takes more memory is given up.
        diverged: Whether the learned values are not finite or were refused; then fused kernels are not the cause.
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
    """Describes an error in one line for people."""
    if isinstance(error, DivergedError):
        return "its loss is not a number"
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")[:_MAX_REASON]


def describe(failed: Execution, used: Execution) -> tuple[str, str]:
    """Describes for people how two executions differ.

    Args:
        failed: Execution that failed.
        used: Execution that was used after it.

    Returns:
        What was given up, and what was used instead.
    """
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
