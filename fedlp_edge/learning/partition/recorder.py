"""What a forward call does, noted down while it runs on a small batch.

The model runs for real, on a few samples, and every call of a torch function and of a basic module (a convolution, a
linear layer, an LSTM) becomes a node of a ``torch.fx`` graph. Unlike symbolic tracing this works whatever the code
between the calls does with shapes, types, dictionaries or optional inputs, and unlike ``torch.export`` it needs no
compiler (half a second and 80 MB that a training process on a small board should not pay).

What cannot be noted is a decision by the *values* of tensors: it would be repeated for ever as it came out this
once. The recording is then refused, with the name of the module whose code decided.
"""

from __future__ import annotations

import copy
import operator
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.costs import MacCounter
from fedlp_edge.learning.model.module_copies import copied, tensors_in
from fedlp_edge.learning.partition.call_kinds import (
    LITERALS,
    as_node,
    changes_in_place,
    draws,
    is_basic,
    looks_at_values,
)

ROOT = "model"
"""Name of the user's model below the holder of everything that a graph names."""

CONSTANT = "_constant"
"""Beginning of the names of tensors that are no part of the model's state."""


class RecordingError(Exception):
    """A forward does something that cannot be noted down.

    Attributes:
        module: dotted name of the innermost module that was running, below the holder.
        reason: what it does.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(reason)
        self.module = module
        self.reason = reason


@dataclass
class Recording:
    """One forward call.

    Every node's ``meta`` has ``shape`` (of a tensor, else None), ``learns`` (whether gradients flow back through
    it), ``macs`` (multiply-accumulates), ``changes`` (it changes its input in place) and
    ``nn_module_stack`` as ``torch.fx`` has it.

    Attributes:
        graph: one placeholder; no output node.
        constants: tensors that are no part of the model's state, by their name below the holder.
        output: the node that gives the logits.
        logits: what it gave.
    """

    graph: torch.fx.Graph
    constants: dict[str, Tensor]
    output: torch.fx.Node
    logits: Tensor


def record(
    model: nn.Module, x: Tensor, *, training: bool, whole: Collection[str], as_compiled: bool = False
) -> Recording:
    """Runs a copy of a model once and notes what it does.

    Args:
        model: takes one tensor.
        x: a batch.
        training: the mode that all of its modules run in; auxiliary outputs are then left out.
        whole: names (below the holder) of submodules that are not looked into.
        as_compiled: tell code that asks (``torch.compiler.is_compiling``) that its calls are being noted; libraries
            that know ``torch.compile`` then leave out checks of values.

    Raises:
        Refused: the code decides by the values of tensors, or passes on what a graph cannot hold.
        PartitionError: it gives something other than one tensor of logits.
        Exception: whatever the model raises.
    """
    shadow = _shadow(model)
    if x.is_floating_point():
        x = x.detach().requires_grad_().clone()  # a clone, because a model may change its input in place
    for module in shadow.modules():
        module.training = training
    recorder = _Recorder(shadow, x, whole)
    # Gradients tell a feature from a mask; nothing is kept for the backward pass that never comes.
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(lambda _: None, _no_backward),
        _compiling(as_compiled),
    ):
        return recorder.run(training)


@contextmanager
def _compiling(flag: bool) -> Iterator[None]:
    # torch has no public way to say so; the name is the one that torch.export sets since 2.3.
    before = torch.compiler.is_compiling()
    torch.compiler._is_compiling_flag = flag or before
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before


def _no_backward(_: object) -> Tensor:
    raise AssertionError("a recording has no backward pass")


def _shadow(model: nn.Module) -> nn.Module:
    """A copy that shares the weights' memory, so that modes, hooks and buffers can be changed without a trace."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        learns = parameter.is_floating_point() or parameter.is_complex()
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=learns)
    try:
        return copied(model, [model], memo)
    except Exception as error:  # whatever the user's objects raise
        raise PartitionError(
            f"{type(model).__name__} cannot be copied, which splitting and training need ({error}); keep locks, files, "
            "generators and computed tensors out of the module"
        ) from error


class _Recorder(MacCounter):
    """Stands between the model's code and torch, and writes down what passes."""

    def __init__(self, model: nn.Module, x: Tensor, whole: Collection[str]) -> None:
        super().__init__()
        self._model = model
        self._x = x
        self._whole = whole
        self._graph = torch.fx.Graph()
        self._constants: dict[str, Tensor] = {}
        self._state: dict[int, str] = {}
        for owner, module in model.named_modules(prefix=ROOT):
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                self._state.setdefault(id(value), f"{owner}.{name}")
        self._running: list[tuple[str, str, type[nn.Module]]] = []  # key of the call, name and kind of the module
        self._calls: Counter[str] = Counter()
        self._leaf: tuple[str, Any, Any, int] | None = None  # its name and arguments, and the count before it ran
        # Weakly held, so that recording a deep model takes no more memory than running it.
        self._nodes: dict[int, tuple[weakref.ref[Tensor], torch.fx.Node]] = {}
        self._varying: set[torch.fx.Node] = set()  # depend on the input, on weights or on chance

    def run(self, training: bool) -> Recording:
        node = self._create("placeholder", "x", (), {})
        self._varying.add(node)
        self._note(self._x, node)
        with self._watched(), self:
            value = self._model(self._x)
        logits = _logits(value, self._model, auxiliary=training)
        return Recording(self._graph, self._constants, self._argument(logits), logits.detach())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name: str = getattr(func, "__name__", "")
        if name == "__set__":  # x.requires_grad = True and the like, which the recording decides itself
            return None
        if self._leaf is not None:  # only counted
            return super().__torch_function__(func, types, args, kwargs)
        if looks_at_values(name, args) and any(self._varies(tensor) for tensor in tensors_in((args, kwargs))):
            raise RecordingError(self._innermost, "its forward decides by the values of tensors")
        before = self.macs
        target = args[0] if changes_in_place(name) else None
        result = super().__torch_function__(func, types, args, kwargs)
        if target is None and next(tensors_in(result), None) is None:
            return result  # a shape or a type, which does not depend on values
        if not torch.is_grad_enabled():
            raise RecordingError(self._innermost, "its forward switches gradients off")
        node = self._create(
            *as_node(func, name, self._argument(args)), self._argument(kwargs or {}), self.macs - before
        )
        if draws(name) or any(source in self._varying for source in node.all_input_nodes):
            self._varying.add(node)
        if target is not None:
            node.meta["changes"] = True
            self._note(target, node)
            return result
        return self._noted(result, node)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for name, module in self._model.named_modules(prefix=ROOT):
                handles.append(
                    module.register_forward_pre_hook(partial(self._enter, name), prepend=True, with_kwargs=True)
                )
                handles.append(module.register_forward_hook(partial(self._leave, name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._leaf is not None:
            return
        if name in self._whole or (name != ROOT and is_basic(module)):
            self._leaf = (name, self._argument(args), self._argument(kwargs), self.macs)
        self._running.append((f"{name}@{self._calls[name]}", name, type(module)))
        self._calls[name] += 1

    def _leave(self, name: str, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Any:
        if self._leaf is None:
            self._running.pop()
            return output
        leaf, args, kwargs, before = self._leaf
        if leaf == name:
            self._leaf = None
            node = self._create("call_module", name, args, kwargs, self.macs - before)
            self._varying.add(node)
            self._running.pop()
            with torch._C.DisableTorchFunction():
                return self._noted(output, node)
        return output

    @property
    def _innermost(self) -> str:
        return self._running[-1][1] if self._running else ROOT

    def _create(self, op: str, target: Any, args: Any, kwargs: Any, macs: int = 0) -> torch.fx.Node:
        node = self._graph.create_node(op, target, args, kwargs)
        node.meta.update(shape=None, learns=False, macs=macs, changes=False)
        node.meta["nn_module_stack"] = {key: (name, kind) for key, name, kind in self._running}
        return node

    def _noted(self, result: Any, node: torch.fx.Node) -> Any:
        """Notes all tensors of a result; returns it with a tensor of its own for each."""
        if isinstance(result, Tensor):
            # A dropout in evaluation gives its own input back: two values in training, so two tensors here.
            own = result.view_as(result) if self._known(result) else result
            self._note(own, node)
            return own
        if isinstance(result, Mapping):
            own_parts: Any = copy.copy(result)
            for key, value in result.items():
                own_parts[key] = self._part(value, node, key)
            return own_parts
        if isinstance(result, (tuple, list)):
            items = [self._part(value, node, index) for index, value in enumerate(result)]
            return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
        return result

    def _part(self, value: Any, node: torch.fx.Node, key: Any) -> Any:
        if next(tensors_in(value), None) is None:
            return value
        part = self._create("call_function", operator.getitem, (node, key), {})
        if node in self._varying:
            self._varying.add(part)
        return self._noted(value, part)

    def _note(self, tensor: Tensor, node: torch.fx.Node) -> None:
        node.meta["shape"] = tuple(tensor.shape)
        node.meta["learns"] = tensor.requires_grad
        self._nodes[id(tensor)] = (weakref.ref(tensor), node)

    def _known(self, tensor: Tensor) -> torch.fx.Node | None:
        reference, node = self._nodes.get(id(tensor), (None, None))
        return node if reference is not None and reference() is tensor else None

    def _varies(self, tensor: Tensor) -> bool:
        node = self._known(tensor)
        return isinstance(tensor, nn.Parameter) if node is None else node in self._varying

    def _argument(self, value: Any) -> Any:
        """A value as an argument of a node, each tensor in it as the node that gives it."""
        if isinstance(value, nn.utils.rnn.PackedSequence):
            raise RecordingError(self._innermost, "it packs sequences by their lengths, which are values of tensors")
        if isinstance(value, Tensor):
            return self._known(value) or self._access(value)
        if isinstance(value, Mapping):
            return {key: self._argument(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._argument(part) for part in value]
        if isinstance(value, tuple):
            return tuple(self._argument(part) for part in value)
        if isinstance(value, slice):
            return slice(*(self._argument(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, LITERALS):
            return value
        raise RecordingError(self._innermost, f"it passes on a {type(value).__name__}")

    def _access(self, tensor: Tensor) -> torch.fx.Node:
        """A node for a weight, a buffer or a constant; one for each use, so that it is alive nowhere else."""
        name = self._state.get(id(tensor))
        if name is None:
            if tensor.requires_grad:
                raise RecordingError(self._innermost, "it passes on a tensor in a way that cannot be followed")
            name = next((known for known, value in self._constants.items() if value is tensor), None)
        if name is None:
            name = f"{CONSTANT}{len(self._constants)}"
            self._constants[name] = tensor
        node = self._create("get_attr", name, (), {})
        node.meta.update(shape=tuple(tensor.shape), learns=tensor.requires_grad)
        if isinstance(tensor, nn.Parameter):
            self._varying.add(node)
        return node


def _logits(value: Any, model: nn.Module, *, auxiliary: bool) -> Tensor:
    """The model's one result, by itself or as ``logits`` of several; with ``auxiliary`` the first of several."""
    result = getattr(value, "logits", value)
    if isinstance(result, Mapping) and "logits" in result:
        result = result["logits"]
    if auxiliary and isinstance(result, tuple) and result:
        result = result[0]
    if isinstance(result, Tensor):
        return result
    raise PartitionError(
        f"{type(model).__name__} returns a {type(result).__name__} and not one tensor of logits [batch, classes]; "
        "wrap it in a module that returns the logits alone"
    )
