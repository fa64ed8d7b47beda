"""The compute mode of each kind of training on this machine: found once, kept for the run, and for the next ones.

The same command twice must learn the same model, so a choice is not measured anew at each start: all processes of a
machine share what was found, in files, one for each combination of processor, PyTorch, model, depth and training.
They measure one at a time, since two trials at once would disturb each other and might decide differently. What
failed in a round is kept in the same place, so that the next round goes straight to the way that worked.
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

from fedlp_edge.core.settings import MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.errors import OperatorError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates
from fedlp_edge.learning.training.compute_trial import SHORT_OF_MEMORY, Choice, try_out
from fedlp_edge.learning.training.fallback import Execution, Setback, reason_of
from fedlp_edge.learning.training.fallback import describe as describe_fallback
from fedlp_edge.system.machine_cache import MachineCache
from fedlp_edge.system.processor_info import cpu_flags

log = logging.getLogger(__name__)

_LOCK_SECONDS = 60.0

_ROOMY = "cached"
"""Of ``Choice.short``: the allocation that keeps free memory."""

_ANY_BUDGET = 2**63 - 1
_LIKE = 1.05
"""Times as large as the budget in which memory ran out: no more than that is as little."""


class ComputeCache:
    """Chooses how one process computes, and remembers what failed.

    Args:
        device: what trains.
        directory: where choices are shared; one that cannot be written only costs a trial for each process.
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
    ) -> Execution:
        """The way to train: as the settings say, or in the fastest correct mode, and without what failed before.

        Args:
            model: the submodel, on the processor; tried out if nobody knows, and left as it was.
            data: the device's samples.
            training: batch size, optimizer and objective.
            settings: what the model was built from.
            depth: of the submodel.
            start: puts the same values into the model every time; see `try_out`.
            limit: holds the trial to the memory of training; see `try_out`.
            budget: bytes that training may take; None for no limit.
        """
        key = self._key(training, settings, depth)
        if key not in self._known and training.compute != "auto":
            self._known[key] = self._cache.read(key) or _asked_for(training)
        if key not in self._known:
            with self._cache.alone(_LOCK_SECONDS):
                choice = self._cache.read(key)
                if choice is None:
                    choice = self._try_out(model, data, training, start, limit)
                    log.info("%s at depth %d: %s", settings.name, depth, describe(choice))
                    # Others may be given more memory, and none of them must do without a mode for this one.
                    if SHORT_OF_MEMORY not in choice.refused.values():
                        self._cache.write(key, choice)
            self._known[key] = choice
        return _without_failed(self._known[key], training, budget)

    def learn(
        self,
        setbacks: Sequence[Setback],
        used: Execution,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        *,
        budget: int | None = None,
    ) -> tuple[str, ...]:
        """Takes note of what failed in a round that a plainer way then did: it is not tried again, in later runs too.

        Want of memory is only held against what had no more memory than this.

        Returns:
            One line for the owner of the device for each way that failed; empty if none did.
        """
        if not setbacks:
            return ()
        key = self._key(training, settings, depth)
        known = self._known.get(key) or self._cache.read(key) or _asked_for(training)
        refused, short, plain = dict(known.refused), dict(known.short), known.plain
        for setback in setbacks:
            mode = setback.execution.compute
            if setback.memory:
                name = _ROOMY if mode == "float32" else mode
                short[name] = max(short.get(name, 0), _ANY_BUDGET if budget is None else budget)
            elif mode != "float32":
                refused[mode] = setback.reason
            else:
                plain = setback.reason
        choice = msgspec.structs.replace(known, refused=refused, short=short, plain=plain)
        self._known[key] = choice
        # Without a limit it was the machine's memory that ran out, and another time there may be more of it.
        if budget is not None or not any(setback.memory for setback in setbacks):
            self._cache.write(key, choice)
        ways = [*(setback.execution for setback in setbacks[1:]), used]
        return tuple(
            _told(setback, way, f"{settings.name} at depth {depth}")
            for setback, way in zip(setbacks, ways, strict=True)
        )

    def suspects(
        self,
        reason: str,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        *,
        budget: int | None = None,
    ) -> tuple[Setback, ...]:
        """The ways that a worker was in, or may have been in, when it died: to be learned if a plainer one works."""
        choice = self._cache.read(self._key(training, settings, depth))
        if choice is None and training.compute == "auto":  # it died in the trial
            doubtful = [Execution(mode) for mode in COMPUTE if mode != "float32"]
        else:
            doubtful = [_without_failed(choice or _asked_for(training), training, budget)]
        limited = budget is not None
        return tuple(Setback(way, reason, memory=limited) for way in doubtful if limited or way.compute != "float32")

    def _try_out(
        self,
        model: nn.Module,
        data: Dataset,
        training: TrainingSettings,
        start: Callable[[], None] | None,
        limit: Callable[[], AbstractContextManager[None]] | None,
    ) -> Choice:
        try:
            return try_out(model, data, training, self._device, start=start, limit=limit)
        except OperatorError:
            raise
        except Exception as error:
            # Training will say what is wrong, or find a way around it.
            log.info("no trial of the compute modes: %s", reason_of(error))
            return Choice("float32", refused=dict.fromkeys(candidates(model, self._device)[1:], SHORT_OF_MEMORY))

    def _key(self, training: TrainingSettings, settings: ModelSettings, depth: int) -> str:
        """Everything that may change what is fastest, as the name of a file.

        Not what is planned for single devices: a simulation, which asks once for all, must find what a fleet finds.
        """
        parts = (
            processor_name(self._device),
            torch.get_num_threads(),
            str(torch.__version__),
            settings,
            depth,
            msgspec.structs.replace(training, epochs=1, memory=MemorySaving()),
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _asked_for(training: TrainingSettings) -> Choice:
    return Choice("float32" if training.compute == "auto" else training.compute)


def _without_failed(choice: Choice, training: TrainingSettings, budget: int | None) -> Execution:
    """The way that was chosen, without what failed, or ran out of as much memory, before."""

    def is_short(name: str) -> bool:
        least = choice.short.get(name, 0)
        return least == _ANY_BUDGET or (budget is not None and budget <= _LIKE * least)

    mode = choice.compute
    if mode != "float32" and (mode in choice.refused or is_short(mode)):
        mode = "float32"
    memory_saving = MemorySaving(training.memory.allocator) if choice.plain else training.memory
    if mode == "float32" and is_short(_ROOMY):
        memory_saving = msgspec.structs.replace(memory_saving, allocator="exact")
    return Execution(mode, memory_saving, fused=not choice.plain)


def _told(setback: Setback, used: Execution, what: str) -> str:
    given_up, instead = describe_fallback(setback.execution, used)
    return f"{what}: {given_up} failed ({setback.reason}); trained again with {instead}, and from now on"


def describe(choice: Choice) -> str:
    """One line for people."""
    times = ", ".join(f"{name} {1e3 * taken:.2f} ms" for name, taken in choice.seconds.items())
    out = "; ".join(f"not {name}: {why}" for name, why in choice.refused.items())
    return f"computes in {choice.compute}" + (f" ({times} a step)" if times else "") + (f"; {out}" if out else "")


def processor_name(device: torch.device) -> str:
    """What tells one processor from another, as far as its speed in the modes goes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {hashlib.sha256(' '.join(sorted(cpu_flags())).encode()).hexdigest()[:16]}"
