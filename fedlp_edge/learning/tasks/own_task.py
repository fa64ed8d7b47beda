"""This module runs a task of the user's own, and says in one line what its code does wrong.

The user's callable gets the number of the model's outputs and returns an object with an attribute ``targets`` and four
functions: ``loss``, ``sums``, ``metrics`` and ``predict``, as docs/tasks.md describes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from fedlp_edge.core.metrics.metric_sums import MAX_NUMBERS, MetricSums
from fedlp_edge.core.metrics.task_metrics import mean_loss
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.foreign_code import load_object, run_foreign_code
from fedlp_edge.learning.memory.limits import is_out_of_memory

_FUNCTIONS = ("loss", "sums", "metrics", "predict")
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")


class OwnTask:
    """The task that a user's code defines.

    Args:
        name: Name of the code, ``module:callable``.
        outputs: Number of the model's outputs.

    Attributes:
        name: Name of the task.
        targets: Kind of its targets.

    Raises:
        ModelError: The code cannot be imported, fails, or lacks a part of the interface.
    """

    def __init__(self, name: str, outputs: int) -> None:
        self.name = name
        self._source = f"the task {name}"
        function = load_object(name, ModelError)
        if not callable(function):
            raise ModelError(f"{self._source} is of type {type(function).__name__}, not a function that makes a task")
        with run_foreign_code(self._source, ModelError, passing=is_out_of_memory):
            self._code: Any = function(outputs)
            lacking = [part for part in _FUNCTIONS if not callable(getattr(self._code, part, None))]
            kind = getattr(self._code, "targets", None)
        if lacking:
            raise ModelError(f"{self._source} gave an object without the function {lacking[0]} (docs/tasks.md)")
        if kind not in get_args(TargetKind):
            kinds = ", ".join(map(repr, get_args(TargetKind)))
            raise ModelError(f"{self._source}: its targets are {kind!r}, but must be one of {kinds}")
        self.targets: TargetKind = cast(TargetKind, kind)

    def loss(self, outputs: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Returns the user's loss.

        Raises:
            ModelError: It is no scalar tensor.
        """
        loss = self._run(lambda: self._code.loss(outputs, y, x), "loss")
        if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
            raise ModelError(f"{self._source}: loss gave {_described(loss)}, not one number as a tensor")
        return loss

    def sums(self, outputs: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns the user's sums, with ``samples`` and ``loss`` added to them.

        Raises:
            ModelError: They are no tensors of numbers by name.
        """
        made = self._run(lambda: self._code.sums(outputs, y, x), "sums")
        if not isinstance(made, Mapping):
            raise ModelError(f"{self._source}: sums gave {_described(made)}, not tensors by name")
        sums = {
            "samples": torch.tensor([len(y)]),
            "loss": (self.loss(outputs, y, x).double() * len(y)).reshape(1),
        }
        for name, value in made.items():
            if not _METRIC.fullmatch(str(name)) or name in sums or not isinstance(value, Tensor):
                raise ModelError(
                    f"{self._source}: sums has {name!r}: {_described(value)}; it must have tensors by names of small "
                    "letters other than samples and loss"
                )
            if value.numel() > MAX_NUMBERS:
                raise ModelError(f"{self._source}: sums has {value.numel():,} numbers in {name}, at most "
                                 f"{MAX_NUMBERS:,} are allowed")  # fmt: skip
            sums[name] = value.detach().flatten()
        return sums

    def metrics(self, sums: MetricSums) -> dict[str, float]:
        """Returns the user's metrics, with the mean loss added to them.

        Raises:
            ModelError: They are no numbers by name.
        """
        arrays = {name: np.asarray(values) for name, values in sums.items()}
        made = self._run(lambda: self._code.metrics(arrays), "metrics")
        if not isinstance(made, Mapping) or not all(_METRIC.fullmatch(str(name)) for name in made):
            raise ModelError(f"{self._source}: metrics gave {_described(made)}, not numbers by names of small letters")
        try:
            values = {str(name): float(value) for name, value in made.items()}
        except (TypeError, ValueError):
            raise ModelError(f"{self._source}: metrics must be numbers, but it gave {made!s:.200}") from None
        loss = mean_loss(sums)
        values |= {} if loss is None else {"loss": loss}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def predict(self, outputs: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Returns what the user's exported model answers.

        Raises:
            ModelError: It is no tensors by name.
        """
        made = self._run(lambda: self._code.predict(outputs, x), "predict")
        named = isinstance(made, Mapping) and bool(made)
        if not named or not all(_METRIC.fullmatch(str(key)) and isinstance(made[key], Tensor) for key in made):
            raise ModelError(f"{self._source}: predict gave {_described(made)}, not tensors by names of small letters")
        return dict(made)

    def _run(self, call: Callable[[], Any], part: str) -> Any:
        with run_foreign_code(f"{self._source}: {part}", ModelError, passing=is_out_of_memory):
            return call()


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {value.dtype}"
    return "nothing (None)" if value is None else f"a {type(value).__name__}"
