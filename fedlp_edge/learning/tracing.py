"""A module's forward computation as a graph for every batch size and for both modes.

A recording holds the constants of one run: the batch size that it had, and the mode. The forward is therefore
recorded three times, and the records are compared:

- constants that follow the mode (``F.dropout(x, training=False)``) become a `ModeSwitch`, which asks its own mode;
- sizes that follow the batch (``x.view(batch, -1)``) are computed from a tensor at hand, and so is the device;
- a submodule that does something else in training or for another batch, or whose code decides by the values of
  tensors, is kept whole and called as a module, with whatever it does inside;
- auxiliary outputs that exist in training only (GoogLeNet, Inception) are left out.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.comparing import Comparison, compare, relevant
from fedlp_edge.learning.modeswitch import insert_switch
from fedlp_edge.learning.randomness import preserved
from fedlp_edge.learning.recording import ROOT, Recording, Refused, is_basic, record

WAY_OUT = "pass the model as a list of blocks or an nn.Sequential, which are not looked into"

_BATCH = 2  # the least that batch normalisation accepts in training


@dataclass(frozen=True)
class Traced:
    """A forward computation.

    Every node's ``meta`` is that of a `Recording`, and ``batch``: a dimension of its value that is a multiple of the
    batch size, with the factor; None if it has no such dimension.

    Attributes:
        holder: owns every attribute that the graph names.
        graph: one placeholder, no output node; calls of `batch_size` and `device_of` take the placeholder and may
            take any other value instead.
        output: the node that gives the logits.
        sample: a batch that was recorded in evaluation.
        logits: what the model gave for it.
    """

    holder: nn.Module
    graph: torch.fx.Graph
    output: torch.fx.Node
    sample: Tensor
    logits: Tensor


def batch_size(x: Tensor, dimension: int = 0, per_sample: int = 1) -> int:
    """The batch size, from a tensor with a dimension of ``per_sample`` times the batch size."""
    return x.shape[dimension] // per_sample


def device_of(x: Tensor) -> torch.device:
    """The device that a tensor is on."""
    return x.device


def trace(model: nn.Module, sample: Tensor) -> Traced:
    """Records the forward of a module that takes one tensor and gives one.

    The module is left as it was.

    Args:
        model: takes a tensor [batch, ...].
        sample: one sample [1, ...]; of numbers only the shape and the type matter.

    Raises:
        PartitionError: it takes several inputs, does not run on the sample, cannot be recorded, gives something other
            than one tensor, or its outermost forward depends on the mode.
    """
    if is_basic(model):
        raise PartitionError(f"{_name(model)} is a single layer, so there is nothing to split; {WAY_OUT}")
    _check_signature(model)
    whole: dict[str, str] = {}  # submodules that are not looked into, and why
    two, three = (_batch(sample, size) for size in (_BATCH, _BATCH + 1))
    while True:
        evaluation = _record(model, two, False, whole)
        training = evaluation and _record(model, two, True, whole)
        if evaluation is None or training is None:
            continue
        modes = compare(evaluation, training)
        if _keep_whole(model, modes, "computes something else in training than in evaluation", whole):
            continue
        larger = _record(model, three, False, whole)
        if larger is None:
            continue
        batches = compare(evaluation, larger)
        if _keep_whole(model, batches, "computes something else for another batch size", whole):
            continue
        return _Assembly(model, two, evaluation, modes, batches).traced()


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Within the block every submodule is in training (or evaluation); afterwards each is as it was."""
    flags = [(child, child.training) for child in module.modules()]
    try:
        for child, _ in flags:
            child.training = training
        yield
    finally:
        for child, flag in flags:
            child.training = flag


def cannot_run(what: str, sample: Tensor, error: Exception) -> PartitionError:
    """The error for code that raises on the sample."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    shape = "x".join(map(str, sample.shape[1:]))
    return PartitionError(f"{what} does not run on an input of {shape}: {reason}")


def _batch(sample: Tensor, size: int) -> Tensor:
    """So many samples: other numbers in each, so that nothing computed from them looks like a constant."""
    if not sample.is_floating_point():
        return torch.cat([sample] * size)
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, *sample.shape[1:], generator=generator).to(sample)


def _record(model: nn.Module, x: Tensor, training: bool, whole: dict[str, str]) -> Recording | None:
    """None if one more submodule has to be kept whole."""
    try:
        with preserved(x.device):
            torch.manual_seed(0)
            return record(model, x, training=training, whole=whole)
    except PartitionError:
        raise
    except Refused as refusal:
        if refusal.module == ROOT or refusal.module in whole:
            raise PartitionError(f"{_name(model)} cannot be split: {refusal.reason}; {WAY_OUT}") from refusal
        _add_kind(model, refusal.module, refusal.reason, whole)
        return None
    except Exception as error:  # a user's forward may fail in any way
        raise cannot_run(_name(model) + (" in training" if training else ""), x, error) from error


def _keep_whole(model: nn.Module, comparison: Comparison, reason: str, whole: dict[str, str]) -> bool:
    if ROOT in comparison.blamed or comparison.blamed & whole.keys():
        raise PartitionError(
            f"the forward of {_name(model)} itself {reason}; move that part into a submodule, or {WAY_OUT}"
        )
    whole |= dict.fromkeys(comparison.blamed, reason)
    return bool(comparison.blamed)


def _add_kind(model: nn.Module, name: str, reason: str, whole: dict[str, str]) -> None:
    """All modules of a kind do alike, so they are found out at once."""
    kind = type(model.get_submodule(name.removeprefix(f"{ROOT}.")))
    for other, module in model.named_modules(prefix=ROOT):
        if type(module) is kind and other != ROOT:
            whole[other] = reason


class _Assembly:
    """One graph from a recording and what others say about it."""

    def __init__(
        self, model: nn.Module, sample: Tensor, recording: Recording, modes: Comparison, batches: Comparison
    ) -> None:
        self._model = model
        self._sample = sample
        self._recording = recording
        self._modes = modes
        self._batches = batches
        self._graph = recording.graph
        self._input = next(iter(recording.graph.nodes))
        self._holder = nn.Module()
        self._holder.add_module(ROOT, model)

    def traced(self) -> Traced:
        for name, value in self._recording.constants.items():
            self._holder.register_buffer(name, value, persistent=False)
        kept = set(relevant(self._recording))
        for node in reversed(self._graph.nodes):
            if node not in kept:
                self._graph.erase_node(node)
        for node, twin in self._batches.pairs:
            node.meta["batch"] = _batch_dimension(node.meta["shape"], twin.meta["shape"])
        for node, twin in self._batches.differing:
            self._follow_the_batch(node, twin)
        output = self._recording.output
        for number, (node, twin) in enumerate(self._modes.differing):
            switch = insert_switch(self._holder, self._graph, node, twin, f"mode_switch_{number}")
            output = switch if node is output else output
        for node in list(self._graph.nodes):
            self._follow_the_device(node)
        return Traced(self._holder, self._graph, output, self._sample, self._recording.logits)

    def _follow_the_batch(self, node: torch.fx.Node, twin: torch.fx.Node) -> None:
        if any(node is other for other, _ in self._modes.differing):
            raise PartitionError(
                f"{_name(self._model)} calls {node.name} with constants that follow both the mode and the batch size; "
                f"move that call into a submodule, or {WAY_OUT}"
            )

        def merge(here: Any, there: Any) -> Any:
            if isinstance(here, (tuple, list)):
                return type(here)([merge(a, b) for a, b in zip(here, there, strict=True)])
            if isinstance(here, dict):
                return {key: merge(value, there[key]) for key, value in here.items()}
            if isinstance(here, slice):
                return slice(*(merge(getattr(here, k), getattr(there, k)) for k in ("start", "stop", "step")))
            if isinstance(here, torch.fx.Node) or here == there:
                return here
            if type(here) is int:
                return self._size(node, there - here, here - _BATCH * (there - here))
            raise PartitionError(
                f"{_name(self._model)} calls {node.name} with {here!r} for {_BATCH} samples and {there!r} for "
                f"{_BATCH + 1}; {WAY_OUT}"
            )

        node.args, node.kwargs = merge(tuple(node.args), tuple(twin.args)), merge(dict(node.kwargs), dict(twin.kwargs))

    def _size(self, node: torch.fx.Node, factor: int, offset: int) -> torch.fx.Node:
        """``factor`` times the batch size, and ``offset``, computed right before ``node``."""
        value = self._derived(node, batch_size, self._input)
        if factor != 1:
            value = self._derived(node, operator.mul, value, factor)
        return self._derived(node, operator.add, value, offset) if offset else value

    def _follow_the_device(self, node: torch.fx.Node) -> None:
        def follow(leaf: Any) -> Any:
            is_it = isinstance(leaf, torch.device) and leaf == self._sample.device
            return self._derived(node, device_of, self._input) if is_it else leaf

        node.args, node.kwargs = map_aggregate(node.args, follow), map_aggregate(node.kwargs, follow)

    def _derived(self, node: torch.fx.Node, target: Any, *args: Any) -> torch.fx.Node:
        with self._graph.inserting_before(node):
            derived = self._graph.call_function(target, args)
        derived.meta = {**node.meta, "shape": None, "learns": False, "macs": 0, "changes": False, "batch": None}
        return derived


def _batch_dimension(small: tuple[int, ...] | None, large: tuple[int, ...] | None) -> tuple[int, int] | None:
    if small is None or large is None:
        return None
    for dimension, (here, there) in enumerate(zip(small, large, strict=True)):
        if there > here and here == _BATCH * (there - here):
            return dimension, there - here
    return None


def _check_signature(model: nn.Module) -> None:
    required = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(required) > 1:
        raise PartitionError(
            f"{_name(model)} takes several inputs ({', '.join(required)}), and layers pass on a single tensor; "
            "wrap it in a module whose forward takes one tensor"
        )


def _name(model: nn.Module) -> str:
    return type(model).__name__
