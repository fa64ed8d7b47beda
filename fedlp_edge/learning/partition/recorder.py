"""Records the forward pass of a model as a ``torch.fx`` graph while it runs on a small batch.

The model runs on real values, and every call of a torch function and of a basic module (a convolution, a linear layer,
an LSTM) becomes a node of the graph. Unlike symbolic tracing, this works whatever the code between the calls does with
shapes, types, dictionaries or optional inputs; unlike ``torch.export``, it needs no compiler (half a second and 80 MB,
too much for a training process on a small board).

A decision by the *values* of tensors cannot be recorded, since the graph would repeat its outcome for every input.
`RecordingError` then names the module whose code decides.
"""

from __future__ import annotations

import copy
import operator
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.hooks import RemovableHandle

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.costs import MacCounter
from fedlp_edge.learning.model.module_copies import copied, tensors_in
from fedlp_edge.learning.partition.call_kinds import (
    LITERALS,
    as_node,
    depends_on_values,
    is_basic,
    is_in_place,
    is_random,
)
from fedlp_edge.learning.rng import drawn_elsewhere

ROOT = "model"
"""Name of the user's model below the holder, the module that owns everything that a graph refers to."""

CONSTANT = "_constant"
"""First part of the names of tensors that are not in the model's state."""


class RecordingError(Exception):
    """The forward pass of a module does something that a graph cannot hold.

    Attributes:
        module: Dotted name of the innermost module that was running, below the holder.
        reason: What the module does, for people.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(reason)
        self.module = module
        self.reason = reason


@dataclass
class Recording:
    """One recorded forward pass.

    The ``meta`` of every node has ``shape`` (of its tensor; None for other values), ``learns`` (whether gradients flow
    through it), ``macs`` (multiply-accumulates), ``changes`` (whether it changes its input in place) and
    ``nn_module_stack`` as ``torch.fx`` defines it.

    Attributes:
        graph: Graph with one placeholder and without an output node.
        constants: Tensors that are not in the model's state, by their name below the holder.
        output: Node that computes the logits.
        logits: Logits of the recorded batch, [B, classes].
        changed: Names, below the holder, of plain numbers that the forward has changed and that the graph keeps.
        carried: Names, below the holder, of tensors that the forward keeps outside the model's state and that change
            the answer to the next batch.
    """

    graph: torch.fx.Graph
    constants: dict[str, Tensor]
    output: torch.fx.Node
    logits: Tensor
    changed: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()


def record(
    model: nn.Module, x: Tensor, *, training: bool, whole: Collection[str], as_compiled: bool = False
) -> Recording:
    """Runs a copy of a model once and records its calls.

    Args:
        model: Module that takes one tensor.
        x: Batch of samples, [B, ...].
        training: Whether all modules run in training mode; auxiliary outputs are then left out.
        whole: Names, below the holder, of submodules that are recorded as one call.
        as_compiled: Whether ``torch.compiler.is_compiling()`` returns True meanwhile; libraries that support
            ``torch.compile`` then leave out checks of values.

    Raises:
        RecordingError: The code decides by the values of tensors, or uses values that a graph cannot hold.
        PartitionError: The model cannot be copied, or returns something other than one tensor of logits.
        Exception: Any error that the model raises.
    """
    shadow = _shadow(model)
    if x.is_floating_point():
        x = x.detach().requires_grad_().clone()  # A leaf could not be changed in place, as some models do.
    for module in shadow.modules():
        module.training = False
    if training:
        shadow.train()  # What the user's own train() keeps in evaluation stays there.
    trained = {
        name for name, module in model.named_modules(prefix=ROOT) if any(p.requires_grad for p in module.parameters())
    }
    recorder = _Recorder(shadow, x, whole, trained)
    # Gradients distinguish a feature from a mask. There is no backward pass, so nothing is stored for it.
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(lambda _: None, _no_backward),
        _compiling(as_compiled),
    ):
        before, held = _numbers(shadow), _kept_tensors(shadow)
        recording = recorder.run(training)
    within = tuple(f"{name}." for name in whole)
    after = {name: value for name, value in _numbers(shadow).items() if not name.startswith(within)}
    recording.changed = tuple(name for name, value in after.items() if name in before and before[name] != value)
    kept = tuple(name for name, ids in _kept_tensors(shadow).items() if held.get(name) != ids)
    if kept and not training and _answers_otherwise(shadow, x.detach(), recording.logits):
        recording.carried = kept
    return recording


def _kept_tensors(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the identities of the tensors that modules hold in attributes and buffers, by dotted names."""
    return {
        f"{name}.{key}": tuple(id(tensor) for tensor in tensors_in(value))
        for name, module in model.named_modules(prefix=ROOT)
        for key, value in {**vars(module), **module._buffers}.items()
        if not key.startswith("_")
    }


def _answers_otherwise(model: nn.Module, x: Tensor, logits: Tensor) -> bool:
    """Whether a model answers a batch otherwise when it gets it a second time."""
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            again = _logits(model(x), model, auxiliary=False)
    except Exception:  # A user's forward may raise anything; the first pass has shown what is to be recorded.
        return False
    return again.shape != logits.shape or not torch.allclose(again, logits, rtol=1e-3, atol=1e-5, equal_nan=True)


def _numbers(model: nn.Module) -> dict[str, float]:
    """Returns the numbers and flags that the modules of a model hold as plain attributes, by their dotted names."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules(prefix=ROOT)
        for key, value in vars(module).items()
        if type(value) in (bool, int, float) and key != "training"
    }


@contextmanager
def _compiling(flag: bool) -> Iterator[None]:
    # torch has no public function for this; torch.export sets this attribute since version 2.3.
    before = torch.compiler.is_compiling()
    torch.compiler._is_compiling_flag = flag or before
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before


def _no_backward(_: object) -> Tensor:
    raise RecordingError(ROOT, "its forward computes gradients (torch.autograd.grad)")


def _shadow(model: nn.Module) -> nn.Module:
    """Copies a model but not the memory of its weights, so that modes, hooks and buffers of the copy can change."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        learns = parameter.is_floating_point() or parameter.is_complex()
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=learns)
    try:
        shadow = copied(model, [model], memo)
    except Exception as error:  # A user's objects may raise anything.
        raise PartitionError(
            f"{type(model).__name__} cannot be copied, which splitting and training need ({error}); keep locks, files, "
            "generators and computed tensors out of the module"
        ) from error
    for module in shadow.modules():  # There is no backward pass, and their wrappers look like functions of the user's.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return shadow


def _in_autograd_function() -> bool:
    """Tells whether a function with a backward of its own is running, whose forward runs without gradients."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if any(isinstance(value, FunctionCtx) for value in frame.f_locals.values()):
            return True
        frame = frame.f_back
    return False


class _Recorder(MacCounter):
    """Intercepts the torch calls and module calls of a forward pass and adds them to a graph."""

    def __init__(self, model: nn.Module, x: Tensor, whole: Collection[str], trained: Collection[str]) -> None:
        super().__init__()
        self._trained = trained
        self._drawn = drawn_elsewhere()
        self._model = model
        self._modules = frozenset(model.modules())
        self._x = x
        self._whole = whole
        self._autocast = torch.is_autocast_enabled(x.device.type)
        self._graph = torch.fx.Graph()
        self._constants: dict[str, Tensor] = {}
        self._state: dict[int, str] = {}
        for owner, module in model.named_modules(prefix=ROOT):
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                self._state.setdefault(id(value), f"{owner}.{name}")
        # Module calls that are running: key of the call, name and class of the module.
        self._running: list[tuple[str, str, type[nn.Module]]] = []
        self._calls: Counter[str] = Counter()
        # The running module that is recorded as one call: name, arguments, and multiply-accumulates before it.
        self._leaf: tuple[str, Any, Any, int] | None = None
        # Weak references, so that recording a deep model takes no more memory than running it.
        self._nodes: dict[int, tuple[weakref.ref[Tensor], torch.fx.Node]] = {}
        # Nodes whose values depend on the input, on weights or on random numbers.
        self._varying: set[torch.fx.Node] = set()

    def run(self, training: bool) -> Recording:
        node = self._create("placeholder", "x", (), {})
        self._varying.add(node)
        self._note(self._x, node)
        with self._watched(), self:
            value = self._model(self._x)
            self._check_draws()
        logits = _logits(value, self._model, auxiliary=training)
        return Recording(self._graph, self._constants, self._argument(logits), logits.detach())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name: str = getattr(func, "__name__", "")
        if name == "__set__":  # Assignments such as x.requires_grad = True, which must not disturb the recording.
            if func.__self__ is not Tensor.data:  # type: ignore[attr-defined]
                return None
            if self._leaf is None:
                raise RecordingError(self._innermost, "its forward assigns to the data of a tensor")
        if self._leaf is not None:  # Inside of such a module, multiply-accumulates are counted and nothing recorded.
            return super().__torch_function__(func, types, args, kwargs)
        if name == "__getitem__" and isinstance(args[1], str):
            raise _no_mapping(self._model, f"[{args[1]!r}]")
        if depends_on_values(name, args) and any(self._varies(tensor) for tensor in tensors_in((args, kwargs))):
            raise RecordingError(self._innermost, "its forward decides by the values of tensors")
        self._check_draws()
        before = self.macs
        target = args[0] if is_in_place(name) else None
        result = super().__torch_function__(func, types, args, kwargs)
        if target is None and next(tensors_in(result), None) is None:
            return result  # A shape or a type does not depend on values.
        if torch.is_autocast_enabled(self._x.device.type) != self._autocast:
            raise RecordingError(
                self._innermost,
                "its forward switches torch.autocast on or off: leave that out, since devices choose their number "
                "format by themselves ([training] compute)",
            )
        if not torch.is_grad_enabled():
            raise RecordingError(
                self._innermost,
                "its forward calls a torch.autograd.Function: put the call into an nn.Module of its own"
                if _in_autograd_function()
                else "its forward switches gradients off",
            )
        node = self._create(
            *as_node(func, name, self._argument(args)), self._argument(kwargs or {}), self.macs - before
        )
        if is_random(name) or any(source in self._varying for source in node.all_input_nodes):
            self._varying.add(node)
        if target is not None:
            node.meta["changes"] = True
            self._note(target, node)
            return result
        return self._noted(result, node)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        handles: list[RemovableHandle] = [register_module_parameter_registration_hook(self._refuse_new_weights)]
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

    def _refuse_new_weights(self, owner: nn.Module, name: str, _value: Any) -> None:
        """Refuses weights that a forward makes: they are others in each call, and nothing trains them."""
        if self._leaf is None and owner not in self._modules:
            raise PartitionError(
                f"the forward of {self._class_of(self._innermost)} makes a {type(owner).__name__} with new weights "
                f"({name}) in each call: make it once, in __init__"
            )

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._leaf is not None:
            return
        self._check_draws()
        if name in self._whole or (name != ROOT and is_basic(module)):
            if not torch.is_grad_enabled() and name in self._trained:
                raise RecordingError(
                    self._innermost,
                    "its forward switches gradients off for weights that are trained: freeze them in its place, by "
                    "requires_grad_(False) where the model is made",
                )
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
            self._drawn = drawn_elsewhere()  # What is called as a whole may draw: it does so in every pass.
            node = self._create("call_module", name, args, kwargs, self.macs - before)
            self._varying.add(node)
            self._running.pop()
            with torch._C.DisableTorchFunction():
                return self._noted(output, node)
        return output

    def _check_draws(self) -> None:
        """Refuses numbers that Python or numpy has drawn since the last call: the graph would repeat the first ones."""
        if drawn_elsewhere() != self._drawn:
            raise RecordingError(
                self._innermost,
                "its forward draws random numbers of Python or numpy: draw those of torch, in a module of its own",
            )

    def _class_of(self, name: str) -> str:
        return type(self._model.get_submodule(name.removeprefix(ROOT).removeprefix("."))).__name__

    @property
    def _innermost(self) -> str:
        return self._running[-1][1] if self._running else ROOT

    def _create(self, op: str, target: Any, args: Any, kwargs: Any, macs: int = 0) -> torch.fx.Node:
        node = self._graph.create_node(op, target, args, kwargs)
        node.meta.update(shape=None, learns=False, macs=macs, changes=False)
        node.meta["nn_module_stack"] = {key: (name, kind) for key, name, kind in self._running}
        return node

    def _noted(self, result: Any, node: torch.fx.Node) -> Any:
        """Records all tensors of a result as given by a node, and returns it with tensors that no other node has."""
        if isinstance(result, Tensor):
            # A dropout in evaluation returns its input itself. In training these are two values, so it needs a new one.
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
        """Returns a value as an argument of a node: each tensor in it is replaced by the node that gives it."""
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
        """Creates a node that reads a weight, a buffer or a constant; one per use, so that no cut must pass it on."""
        name = self._state.get(id(tensor))
        if name is None:
            if tensor.requires_grad and tensor.is_leaf:
                raise PartitionError(
                    f"the forward of {self._class_of(self._innermost)} uses weights {list(tensor.shape)} that are not "
                    "part of the model and would never be trained: make them in __init__, as an nn.Parameter, and hold "
                    "modules in an nn.ModuleList or nn.ModuleDict, not in a list or dict of Python"
                )
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


def _no_mapping(model: nn.Module, use: str) -> PartitionError:
    return PartitionError(
        f"{type(model).__name__} takes a mapping or an object (its forward uses {use}), and layers pass on a single "
        "tensor; wrap it in a module whose forward takes one tensor"
    )


def _logits(value: Any, model: nn.Module, *, auxiliary: bool) -> Tensor:
    """Returns the logits from a model's output: a tensor, or ``logits`` of an object, or the only part of it.

    With ``auxiliary``, they are the first of several.
    """
    result = getattr(value, "logits", value)
    if isinstance(result, Mapping) and "logits" in result:
        result = result["logits"]
    if isinstance(result, (tuple, list)) and (len(result) == 1 or (auxiliary and isinstance(result, tuple) and result)):
        result = result[0]
    if isinstance(result, Tensor):
        return result
    parts: Sequence[Any] = (
        [field.name for field in fields(result)] if is_dataclass(result) else getattr(result, "_fields", ())
    )
    parts = list(result) if isinstance(result, Mapping) else parts
    if len(parts) == 1:
        only = result[parts[0]] if isinstance(result, Mapping) else getattr(result, parts[0])
        if isinstance(only, Tensor):
            return only
    of = f" ({', '.join(map(str, parts))})" if parts else ""
    raise PartitionError(
        f"{type(model).__name__} returns a {type(result).__name__}{of} and not one tensor of logits [batch, classes]; "
        "wrap it in a module that returns the logits alone, or call them logits"
    )
