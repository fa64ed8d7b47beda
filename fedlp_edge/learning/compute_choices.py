"""The compute mode of each kind of training on this machine: found once, kept for the run, and for the next ones.

The same command twice must learn the same model, so a choice is not measured anew at each start: all processes of a
machine share what was found, in files, one for each combination of processor, PyTorch, model, depth and training.
They measure one at a time, since two trials at once would disturb each other and might decide differently.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import nn

from fedlp_edge.core.settings import ComputeMode, ModelSettings, Thrift, TrainingSettings
from fedlp_edge.learning.compute import cpu_flags
from fedlp_edge.learning.compute_trial import SHORT_OF_MEMORY, Choice, try_out
from fedlp_edge.learning.data import Dataset
from fedlp_edge.machine_cache import MachineCache

log = logging.getLogger(__name__)

_LOCK_SECONDS = 60.0


class ComputeChoices:
    """Chooses compute modes for one process.

    Args:
        device: what trains.
        directory: where choices are shared; one that cannot be written only costs a trial for each process.
    """

    def __init__(self, device: torch.device, directory: Path | None) -> None:
        self._device = device
        self._cache = MachineCache(directory, Choice)
        self._known: dict[str, Choice] = {}

    def of(
        self,
        model: nn.Module,
        data: Dataset,
        training: TrainingSettings,
        settings: ModelSettings,
        depth: int,
        start: Callable[[], None] | None = None,
    ) -> ComputeMode:
        """The mode to train in: the one that the settings name, or the fastest correct one.

        Args:
            model: the submodel, on the processor; tried out if nobody knows, and left as it was.
            data: the device's samples.
            training: batch size, optimizer and objective.
            settings: what the model was built from.
            depth: of the submodel.
            start: puts the same values into the model every time; see `try_out`.
        """
        if training.compute != "auto":
            return training.compute
        key = self._key(training, settings, depth)
        if key not in self._known:
            with self._cache.alone(_LOCK_SECONDS):
                choice = self._cache.read(key)
                if choice is None:
                    choice = try_out(model, data, training, self._device, start=start)
                    log.info("%s at depth %d: %s", settings.name, depth, describe(choice))
                    # Others may be given more memory, and none of them must do without a mode for this one.
                    if SHORT_OF_MEMORY not in choice.refused.values():
                        self._cache.write(key, choice)
            self._known[key] = choice
        return self._known[key].compute

    def refuse(self, mode: ComputeMode, training: TrainingSettings, settings: ModelSettings, depth: int) -> None:
        """Notes that a mode spoiled a round which float32 did not: it is float32 from now on, in later runs too."""
        if training.compute != "auto":
            return
        key = self._key(training, settings, depth)
        known = self._known.get(key, Choice(mode))
        choice = Choice("float32", known.seconds, {**known.refused, mode: "diverged in a round where float32 did not"})
        self._known[key] = choice
        log.warning("%s at depth %d: %s diverged, float32 from now on", settings.name, depth, mode)
        self._cache.write(key, choice)

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
            msgspec.structs.replace(training, epochs=1, thrift=Thrift()),
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


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
