"""Turns the forward computation of a module into a graph that is valid for every batch size and in both modes.

A recording holds the constants of one forward pass: its batch size, and whether it was in training or evaluation. The
forward pass is therefore recorded three times, and the recordings are compared:

- constants that depend on the mode (``F.dropout(x, training=False)``) become a `ModeSwitch`;
- sizes that depend on the batch size (``x.view(batch, -1)``) are computed from a tensor, and so is the device;
- a submodule that computes something else in training or for another batch size, or whose code decides by the values
  of tensors, is called as a module and not split;
- auxiliary outputs that exist in training only (GoogLeNet, Inception) are left out.
"""

from __future__ import annotations

import inspect
import logging
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from fedlp_edge.core.device_data import listed
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.foreign_code import place_of
from fedlp_edge.learning.partition.call_kinds import is_basic
from fedlp_edge.learning.partition.graph_diff import Comparison, compare, relevant
from fedlp_edge.learning.partition.mode_switch import insert_switch
from fedlp_edge.learning.partition.recorder import ROOT, Recording, RecordingError, record
from fedlp_edge.learning.rng import preserved
from fedlp_edge.learning.sample_values import zeros_and_ones

log = logging.getLogger("fedlp.learning")

WAY_OUT = (
    "pass the model as a list of blocks, which are not looked into; a list of it alone is learned whole, with one depth"
)
"""Advice in error messages: what a user can do with a model that cannot be split."""

_USED_AS_AN_OBJECT = ("'Tensor' object has no attribute", "must be a mapping, not Tensor")
"""Python's words where a forward takes its input for something that holds several."""

_EXPORTED_FOR = "Guard failed: "
"""Words of a module that torch.export has made where the input is of another shape than at its export."""

_BATCH = 2
"""Samples in a recorded batch: batch normalisation in training needs at least two."""


@dataclass(frozen=True)
class Traced:
    """The forward computation of a model, for every batch size and in both modes.

    The ``meta`` of every node has the entries of a `Recording`, and ``batch``: the batch dimension of its value, None
    if it has none.

    Attributes:
        holder: Module that owns every attribute that the graph refers to.
        graph: Graph with one placeholder and without an output node; calls of `batch_size` and `device_of` take the
            placeholder and may take any other value of the batch instead.
        output: Node that computes the logits.
        sample: Batch that was recorded in evaluation, [B, ...].
        logits: Logits that the model gave for ``sample``, [B, classes].
    """

    holder: nn.Module
    graph: torch.fx.Graph
    output: torch.fx.Node
    sample: Tensor
    logits: Tensor


def batch_size(x: Tensor, dimension: int = 0) -> int:
    """Returns the batch size from a tensor and its batch dimension."""
    return x.shape[dimension]


def device_of(x: Tensor) -> torch.device:
    """Returns the device that a tensor is on, as a function that a graph can call."""
    return x.device


def trace(model: nn.Module, sample: Tensor) -> Traced:
    """Records the forward computation of a module that takes one tensor and returns one.

    Args:
        model: Module that takes a tensor [B, ...]; not changed.
        sample: One sample or more, [B, ...]; if they are floating-point numbers, only the shape matters.

    Raises:
        PartitionError: The model takes several inputs, does not run on the sample, cannot be recorded, returns
            something other than one tensor, or its outermost forward depends on the mode or the batch size.
    """
    if is_basic(model):
        raise PartitionError(f"{_name(model)} is a single layer, so there is nothing to split; {WAY_OUT}")
    if type(model).__module__.startswith("torchvision.models.detection"):
        raise PartitionError(
            f"{_name(model)} finds objects, whose lists of boxes are no logits, and cannot be learned here; what it "
            "uses to tell crops apart, a classifier, can"
        )
    _check_signature(model)
    try:
        return _traced(model, *(_batch(sample, size) for size in (_BATCH, _BATCH + 1)))
    except CannotRunError:
        if not sample.is_floating_point():
            raise
        whole = [zeros_and_ones((size, *sample.shape[1:]), size).to(sample) for size in (_BATCH, _BATCH + 1)]
        with suppress(CannotRunError):
            return _traced(model, *whole)
        raise


def _traced(model: nn.Module, two: Tensor, three: Tensor) -> Traced:
    """Records a model on batches of two and three samples."""
    session = _RecordingSession(model)
    while True:
        try:
            evaluation = session.record(two)
            training = session.record(two, training=True)
            modes = session.compare(evaluation, training, "in training than in evaluation")
            batches = session.compare(evaluation, session.record(three), "for another batch size")
        except _RetraceError:
            continue
        if training.changed:
            log.warning(
                "the forward of %s changes %s as it runs, and layers keep the first value; if that decides what it "
                "computes, pass the model as a list of blocks, which keep their own code",
                _name(model),
                listed([name.removeprefix(f"{ROOT}.") for name in training.changed]),
            )
        if evaluation.carried:
            log.warning(
                "%s keeps %s from one batch to the next and answers by it, though samples come in any order; %s",
                _name(model),
                listed([name.removeprefix(f"{ROOT}.") for name in evaluation.carried]),
                "set it anew in every forward, since exported files do not keep it"
                if session.calls_whole(evaluation.carried)
                else "its layers and exported files start every batch anew",
            )
        return _Assembly(model, two, evaluation, modes, batches).traced()


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Puts a module and its submodules into training or evaluation mode within a block, and restores their modes."""
    flags = [(child, child.training) for child in module.modules()]
    try:
        for child, _ in flags:
            child.training = training
        yield
    finally:
        for child, flag in flags:
            child.training = flag


class CannotRunError(PartitionError):
    """Code of the user raises an error on the numbers that it was run on."""


def cannot_run(what: str, sample: Tensor, error: Exception, way_out: str = "") -> CannotRunError:
    """Returns the error for code that raises on the sample.

    Args:
        what: Name of the code, for people.
        sample: Batch that the code was run on, [B, ...].
        error: Exception that the code raised.
        way_out: What the user can do; empty for no advice.
    """
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    shape = "x".join(map(str, sample.shape[1:]))
    if not way_out and any(words in reason for words in _USED_AS_AN_OBJECT):
        way_out = "it takes a mapping or an object, and layers pass on a single tensor: wrap it for that"
    if not way_out and _EXPORTED_FOR in reason:
        way_out = "it was exported for batches of that size: give the module that it was exported from"
    if not way_out and (pictures := _channels_first(tuple(sample.shape[1:]))):
        way_out = f"if these are pictures, their channels come first: {'x'.join(map(str, pictures))}"
    return CannotRunError(f"{what} does not run on an input of {shape}: {reason}" + (way_out and f"; {way_out}"))


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that is meant by one of pictures with the channels last; empty if it is none."""
    last = len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) > 3
    return (shape[2], *shape[:2]) if last else ()


def _batch(sample: Tensor, size: int) -> Tensor:
    """Makes a batch of ``size`` samples with different numbers, so that no result looks like a constant."""
    if not sample.is_floating_point():
        return torch.cat([sample[:1]] * size)
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, *sample.shape[1:], generator=generator).to(sample)


class _RetraceError(Exception):
    """The recordings made so far cannot be used, because the session now records something in another way."""


class _RecordingSession:
    """Records a model several times, and finds the submodules that must be called as modules and not split."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._whole: set[str] = set()
        self._as_compiled = False

    def record(self, x: Tensor, *, training: bool = False) -> Recording:
        """Records one forward pass.

        Raises:
            _RetraceError: All recordings must be made again, with another set of whole submodules or as compiled.
            PartitionError: The model does not run, or cannot be recorded.
        """
        try:
            with preserved(x.device):
                torch.manual_seed(0)
                return record(self._model, x, training=training, whole=self._whole, as_compiled=self._as_compiled)
        except PartitionError:
            raise
        except RecordingError as refusal:
            if not self._as_compiled:  # Some libraries take a path that can be recorded when they are compiled.
                self._as_compiled = True
            elif refusal.module == ROOT or refusal.module in self._whole:
                decides = "decides by the values" in refusal.reason
                way_out = f"move that into a submodule, or {WAY_OUT}" if decides else WAY_OUT
                raise PartitionError(
                    f"{_name(self._model)} cannot be split: {refusal.reason}{place_of(refusal)}; {way_out}"
                ) from refusal
            else:
                self._whole |= self._alike(refusal.module)
            raise _RetraceError from refusal
        except Exception as error:  # A user's forward may raise anything.
            raise cannot_run(_name(self._model) + (" in training" if training else ""), x, error) from error

    def compare(self, one: Recording, other: Recording, when: str) -> Comparison:
        """Compares two recordings.

        Raises:
            _RetraceError: The recordings differ inside of submodules, which are recorded as one call from now on.
            PartitionError: The recordings differ in the forward of the model itself.
        """
        comparison = compare(one, other)
        if ROOT in comparison.blamed or comparison.blamed & self._whole:
            raise PartitionError(
                f"the forward of {_name(self._model)} itself computes something else {when}; "
                f"move that part into a submodule, or {WAY_OUT}"
            )
        if comparison.blamed:
            self._whole |= comparison.blamed
            raise _RetraceError
        return comparison

    def calls_whole(self, names: Iterable[str]) -> bool:
        """Whether some of these names are inside of submodules that are called as modules, with all that they keep."""
        return any(name.startswith(f"{whole}.") for name in names for whole in self._whole)

    def _alike(self, name: str) -> set[str]:
        """Returns the names of all modules of the class of this one: they cannot be recorded either."""
        kind = type(self._model.get_submodule(name.removeprefix(f"{ROOT}.")))
        return {other for other, module in self._model.named_modules(prefix=ROOT) if type(module) is kind} - {ROOT}


class _Assembly:
    """Builds one graph from a recording and its comparisons with a recording in training and one of another batch."""

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
        """Inserts nodes before ``node`` that compute ``factor`` times the batch size plus ``offset``."""
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


def _batch_dimension(small: tuple[int, ...] | None, large: tuple[int, ...] | None) -> int | None:
    sizes = zip(small or (), large or (), strict=True)
    return next((dimension for dimension, pair in enumerate(sizes) if pair == (_BATCH, _BATCH + 1)), None)


def _check_signature(model: nn.Module) -> None:
    required = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(required) > 1:
        raise PartitionError(
            f"{_name(model)} takes several inputs ({', '.join(required)}), and layers pass on a single tensor; "
            "wrap it in a module whose forward takes one tensor, such as a row of all inputs, and takes it apart"
        )


def _name(model: nn.Module) -> str:
    return type(model).__name__
