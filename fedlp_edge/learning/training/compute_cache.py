"""Stores on disk the compute mode of each kind of training on this machine, for this run and later ones.

A command that is run twice must learn the same model, so the compute mode is not measured at each start: all processes
of a machine share the choices in files, one for each combination of processor, PyTorch, model, depth and training
settings. They measure one at a time, since two trials at once would disturb each other and might choose differently.
An execution that failed in a round is stored there too, so that the next round starts with the one that worked.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import torch
from torch import nn

from fedlp_edge.core.augment_settings import AugmentSettings
from fedlp_edge.core.learning_rate import training_in_round
from fedlp_edge.core.settings import MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.errors import OperatorError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates
from fedlp_edge.learning.training.compute_trial import TOO_LITTLE_MEMORY, Choice, try_out
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt, reason_of
from fedlp_edge.learning.training.fallback import describe as describe_fallback
from fedlp_edge.system.machine_cache import MachineCache
from fedlp_edge.system.processor_info import cpu_flags

log = logging.getLogger(__name__)

_LOCK_SECONDS = 60.0

_CACHED = "cached"
"""Key of ``Choice.short`` for the allocator that keeps freed memory."""

_ANY_BUDGET = 2**63 - 1
"""Entry of ``Choice.short`` if memory ran out without a budget: then every budget is too small."""

_LIKE = 1.05
"""Largest ratio of a budget to the one in which memory ran out at which it is expected to run out again."""


class ComputeCache:
    """Chooses the compute mode and memory saving of one process, and stores which of them failed.

    Args:
        device: Device that trains.
        directory: Directory of the shared choices; without one that can be written, each process makes a trial.
    """

    def __init__(self, device: torch.device, directory: Path | None) -> None:
        self._device = device
        self._cache = MachineCache(directory, Choice)
        self._known: dict[str, Choice] = {}

    def execution(
        self,
        model: nn.Module,
        data: Dataset,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        *,
        start: Callable[[], None] | None = None,
        limit: Callable[[], AbstractContextManager[None]] | None = None,
        budget: int | None = None,
        task: LearningTask | None = None,
    ) -> Execution:
        """Returns how to train: as the settings say or in the fastest correct mode, without what failed before.

        Args:
            model: Submodel on the device; used for a trial if no choice is stored, and restored afterwards.
            data: Samples of the device.
            training: Batch size, optimizer and objective.
            settings: Settings that the model was built from.
            depth: Depth of the submodel.
            start: Function that loads the values that the trial starts from; see `try_out`.
            limit: Function that returns a context with the memory limit of training; see `try_out`.
            budget: Bytes that training may take; None for no limit.
            task: What the model's outputs mean; None for classification.

        Raises:
            OperatorError: The trial failed for a reason that the operator must remove.
        """
        key = self._key(training, settings, depth)
        if key not in self._known and training.compute != "auto":
            self._known[key] = self._cache.read(key) or _asked_for(training)
        if key not in self._known:
            with self._cache.locked(_LOCK_SECONDS):
                choice = self._cache.read(key)
                if choice is None:
                    choice = self._try_out(model, data, training, start, limit, task)
                    log.info("%s at depth %d: %s", settings.name, depth, describe(choice))
                    # Processes with more memory must not lose a mode because it did not fit here.
                    if TOO_LITTLE_MEMORY not in choice.refused.values():
                        self._cache.write(key, choice)
            self._known[key] = choice
        return _without_failed(self._known[key], training, budget)

    def learn(
        self,
        failed_attempts: Sequence[FailedAttempt],
        used: Execution,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        *,
        budget: int | None = None,
    ) -> tuple[str, ...]:
        """Stores the executions that failed in a round, so that no later round or run tries them again.

        An execution that ran out of memory is only avoided with about as little memory.

        Args:
            failed_attempts: Failed executions, in order.
            used: Execution that trained the round in the end.
            training: Batch size, optimizer and objective.
            settings: Settings that the model was built from.
            depth: Depth of the submodel.
            budget: Bytes that training was allowed to take; None for no limit.

        Returns:
            One line for the owner of the device for each failed execution.
        """
        if not failed_attempts:
            return ()
        key = self._key(training, settings, depth)
        known = self._known.get(key) or self._cache.read(key) or _asked_for(training)
        refused, short, plain = dict(known.refused), dict(known.short), known.plain
        for failed in failed_attempts:
            mode = failed.execution.compute
            if failed.memory:
                name = _CACHED if mode == "float32" else mode
                short[name] = max(short.get(name, 0), _ANY_BUDGET if budget is None else budget)
            elif mode != "float32":
                refused[mode] = failed.reason
            else:
                plain = failed.reason
        choice = msgspec.structs.replace(known, refused=refused, short=short, plain=plain)
        self._known[key] = choice
        # Without a budget the memory of the machine ran out, and it may have more free memory next time.
        if budget is not None or not any(failed.memory for failed in failed_attempts):
            self._cache.write(key, choice)
        followers = [*(failed.execution for failed in failed_attempts[1:]), used]
        return tuple(
            _message(failed, following, f"{settings.name} at depth {depth}")
            for failed, following in zip(failed_attempts, followers, strict=True)
        )

    def suspects(
        self,
        reason: str,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        *,
        budget: int | None = None,
    ) -> tuple[FailedAttempt, ...]:
        """Returns the executions that a worker may have been in when it died, for `learn` if a plainer one works.

        Args:
            reason: Why the worker died, for people.
            training: Batch size, optimizer and objective.
            settings: Settings that the model was built from.
            depth: Depth of the submodel.
            budget: Bytes that training was allowed to take; None for no limit.
        """
        choice = self._cache.read(self._key(training, settings, depth))
        if choice is None and training.compute == "auto":  # The worker died in the trial.
            doubtful = [Execution(mode) for mode in COMPUTE if mode != "float32"]
        else:
            doubtful = [_without_failed(choice or _asked_for(training), training, budget)]
        limited = budget is not None
        return tuple(
            FailedAttempt(way, reason, memory=limited) for way in doubtful if limited or way.compute != "float32"
        )

    def _try_out(
        self,
        model: nn.Module,
        data: Dataset,
        training: TrainingSettings,
        start: Callable[[], None] | None,
        limit: Callable[[], AbstractContextManager[None]] | None,
        task: LearningTask | None,
    ) -> Choice:
        try:
            return try_out(model, data, training, self._device, start=start, limit=limit, task=task)
        except OperatorError:
            raise
        except Exception as error:
            # Training will report the error, or succeed in another execution.
            log.info("no trial of the compute modes: %s", reason_of(error))
            return Choice("float32", refused=dict.fromkeys(candidates(model, self._device)[1:], TOO_LITTLE_MEMORY))

    def _key(self, training: TrainingSettings, settings: ModelSettings, depth: int) -> str:
        """Returns the file name for everything that may change which mode is fastest.

        What the planner chooses for single devices is left out: a simulation, which asks once for all devices, must
        find the file that a fleet writes. So is what changes from round to round, or which numbers go in.
        """
        training = training_in_round(training, 1, 1)
        parts = (
            processor_name(self._device),
            torch.get_num_threads(),
            str(torch.__version__),
            settings,
            depth,
            msgspec.structs.replace(training, epochs=1, lr=1.0, memory=MemorySaving(), augment=AugmentSettings()),
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _asked_for(training: TrainingSettings) -> Choice:
    return Choice("float32" if training.compute == "auto" else training.compute)


def _without_failed(choice: Choice, training: TrainingSettings, budget: int | None) -> Execution:
    """Returns the chosen execution without what failed before, or ran out of memory with a similar budget."""

    def is_short(name: str) -> bool:
        least = choice.short.get(name, 0)
        return least == _ANY_BUDGET or (budget is not None and budget <= _LIKE * least)

    mode = choice.compute
    if mode != "float32" and (mode in choice.refused or is_short(mode)):
        mode = "float32"
    memory_saving = MemorySaving(training.memory.allocator) if choice.plain else training.memory
    if mode == "float32" and is_short(_CACHED):
        memory_saving = msgspec.structs.replace(memory_saving, allocator="exact")
    return Execution(mode, memory_saving, fused=not choice.plain)


def _message(failed: FailedAttempt, used: Execution, what: str) -> str:
    given_up, instead = describe_fallback(failed.execution, used)
    return f"{what}: {given_up} failed ({failed.reason}); trained again with {instead}, and from now on"


def describe(choice: Choice) -> str:
    """Describes a choice for people, in one line."""
    times = ", ".join(f"{name} {1e3 * taken:.2f} ms" for name, taken in choice.seconds.items())
    out = "; ".join(f"not {name}: {why}" for name, why in choice.refused.items())
    return f"computes in {choice.compute}" + (f" ({times} a step)" if times else "") + (f"; {out}" if out else "")


def processor_name(device: torch.device) -> str:
    """Returns a name for a processor; processors with one name are equally fast in every compute mode.

    Args:
        device: CPU or CUDA device.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {hashlib.sha256(' '.join(sorted(cpu_flags())).encode()).hexdigest()[:16]}"
