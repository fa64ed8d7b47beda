"""Turns a user's model into a sequence of stages, each a module from one tensor to one tensor.

Either a recorded graph is cut at its cut points (`stages_of_graph`), or the user gives a list of blocks
(`stages_of_blocks`). In both cases the stages share the modules of the user's model, under their names there, and the
last stage holds the classifier.
"""

from __future__ import annotations

import keyword
import operator
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.costs import MacCounter
from fedlp_edge.learning.model.module_copies import tensors_in
from fedlp_edge.learning.partition.call_kinds import is_basic
from fedlp_edge.learning.partition.cut_points import Segment, is_derived, segments, state_of, undivided
from fedlp_edge.learning.partition.grouping import balanced_weights, group
from fedlp_edge.learning.partition.recorder import ROOT
from fedlp_edge.learning.partition.relu_pool import pool_first, pool_first_in
from fedlp_edge.learning.partition.tracing import WAY_OUT, Traced, batch_size, cannot_run, mode, trace
from fedlp_edge.learning.rng import preserved

INPUT_LAYER = "input"
"""Name of the layer before a classifier that is the model's only layer."""

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Stage:
    """The code of one layer, or of the classifier of the user's model.

    Attributes:
        holders: Names of the modules that hold its weights, in order of use.
        module: Module that computes the stage; its state has the names of the user's model.
        batch: Batch dimension of its feature.
    """

    holders: tuple[str, ...]
    module: nn.Module
    batch: int = 0


def input_stage() -> Stage:
    """Makes a layer that has no weights and passes its input on, for a model whose only layer is its classifier."""
    return Stage((INPUT_LAYER,), nn.Sequential())


def is_single_layer(model: nn.Module) -> bool:
    """Tells whether one module alone has weights, norms apart, as in a linear or a logistic regression."""
    holders = [
        module
        for module in model.modules()
        if not isinstance(module, _NORMS) and any(True for _ in module.parameters(recurse=False))
    ]
    return len(holders) == 1 and is_basic(holders[0])


def stages_of_blocks(blocks: Sequence[tuple[str, nn.Module]], sample: torch.Tensor, most: int | None) -> list[Stage]:
    """Makes layers from blocks that are called one after the other.

    Each block with parameters starts a layer; one without belongs to the layer before it. A block that shares state
    with a later block forms one layer with it and with all blocks between them.

    Args:
        blocks: Name and module of each block.
        sample: Batch of samples, [B, ...].
        most: Largest number of layers, without the classifier; None for no limit.

    Blocks with a single layer of weights are the classifier, behind a layer that has none, and so is a block that is
    alone: its user wants it to be learned whole.

    Raises:
        PartitionError: No two blocks have parameters of their own, a block does not run on ``sample``, or a block
            returns something other than one tensor.
    """
    macs = _run_blocks(blocks, sample)
    modules = nn.ModuleList(block for _, block in blocks)
    if is_single_layer(modules) or (len(blocks) == 1 and any(True for _ in modules.parameters())):
        whole = nn.Sequential(OrderedDict(blocks))
        whole.training = blocks[0][1].training
        return [input_stage(), Stage(_holders(blocks), whole)]
    shared = _blocks_sharing_state([block for _, block in blocks])
    starts = [
        index
        for index, (_, block) in enumerate(blocks)
        if any(True for _ in block.parameters()) and not any(first < index <= last for first, last in shared)
    ]
    if len(starts) < 2:
        reason = "share their weights" if shared else "have parameters"
        raise PartitionError(
            f"of the {len(blocks)} blocks too few can be told apart: at least two must have parameters of their own, "
            f"one layer and the classifier (here {len(starts)}; all others {reason if shared else 'have none'}); "
            "a list of one block that holds them all is learned whole, with one depth"
        )
    starts[0] = 0  # Blocks before the first one with parameters belong to its layer.
    runs = [range(start, stop) for start, stop in pairwise([*starts, len(blocks)])]
    parameters = [sum(p.numel() for i in run for p in blocks[i][1].parameters()) for run in runs]
    joined = _join(runs[:-1], [sum(macs[i] for i in run) for run in runs[:-1]], parameters[:-1], most)
    result = []
    for run in [*joined, runs[-1]]:
        chosen = [blocks[i] for i in run]
        holders = _holders(chosen)
        module = nn.Sequential(OrderedDict(chosen))
        module.training = blocks[0][1].training
        result.append(Stage(holders, pool_first(module)))
    return result


def _holders(blocks: Sequence[tuple[str, nn.Module]]) -> tuple[str, ...]:
    return tuple(name for name, block in blocks if any(True for _ in block.parameters()))


def stages_of_graph(model: nn.Module, sample: torch.Tensor, most: int | None) -> list[Stage]:
    """Makes layers from the forward code of a module, cut so that as few of its submodules as possible are divided.

    A module with a single layer, or with a single separable part that has weights, is the classifier, behind a layer
    that has no weights.

    Args:
        model: Module that takes one tensor; not changed.
        sample: Batch of samples, [B, ...].
        most: Largest number of layers, without the classifier; None for no limit.

    Raises:
        PartitionError: The model cannot be traced or cut.
    """
    if is_basic(model) and is_single_layer(model):
        return [input_stage(), Stage((type(model).__name__.lower(),), model)]
    traced = trace(model, sample)
    found = [undivided(traced)] if is_single_layer(model) else segments(traced)
    heavy = [index for index, segment in enumerate(found) if segment.has_weights]
    if not heavy:
        raise PartitionError(f"{type(model).__name__} has no weights, so there is nothing to train")
    if len(heavy) == 1:
        alone = [input_stage(), _compile([undivided(traced)], traced.holder, model)]
        _check(alone, traced, model)
        return alone
    runs = _choose(found, heavy, most)
    weights = [
        (
            sum(node.meta["macs"] for i in run for node in found[i].nodes),
            _parameters([found[i] for i in run], traced.holder),
        )
        for run in runs
    ]
    joined = _join(runs[:-1], [m for m, _ in weights[:-1]], [p for _, p in weights[:-1]], most)
    stages = [_compile([found[i] for i in run], traced.holder, model) for run in [*joined, runs[-1]]]
    _check(stages, traced, model)
    return stages


def _join(runs: list[range], macs: list[int], parameters: list[int], most: int | None) -> list[range]:
    if most is None or len(runs) <= most:
        return runs
    groups = group(balanced_weights(macs, parameters), most)
    return [range(runs[g[0]].start, runs[g[-1]].stop) for g in groups]


def _choose(found: list[Segment], heavy: list[int], most: int | None) -> list[range]:
    """Returns ranges of segments that could each be a layer, and last the range of the classifier.

    A layer starts with a segment that has weights, or at the parameter-free code before it if a cut there divides
    fewer modules of the user's model. Cuts that divide fewer modules are used first, and others only as long as there
    are fewer layers than wanted.
    """
    starts = [
        min(range(before + 1, here + 1), key=lambda i: (found[i].divided, -i)) for before, here in pairwise(heavy)
    ]
    inner, classifier = starts[:-1], starts[-1]
    chosen = inner
    for level in sorted({found[i].divided[0] for i in inner}):
        chosen = [i for i in inner if found[i].divided[0] <= level]
        if most is not None and len(chosen) + 1 >= most:
            break
    return [range(start, stop) for start, stop in pairwise([0, *chosen, classifier, len(found)])]


def _parameters(run: list[Segment], holder: nn.Module) -> int:
    held = {id(v): v for s in run for node in s.nodes for v in state_of(node, holder).values()}
    return sum(value.numel() for value in held.values() if isinstance(value, nn.Parameter))


def _compile(run: list[Segment], holder: nn.Module, model: nn.Module) -> Stage:
    """Compiles segments into one stage whose attributes have the names of the user's model."""
    graph = torch.fx.Graph()
    given = graph.placeholder("x")
    copies = {run[0].source[0]: given}
    if len(run[0].source) > 1:
        copies = {value: graph.call_function(operator.getitem, (given, i)) for i, value in enumerate(run[0].source)}
    anchor = run[0].source[0]
    root = nn.Module()
    names = []
    for segment in run:
        for node in segment.nodes:
            if is_derived(node):
                where = (anchor.meta["batch"],) if node.target is batch_size else ()
                copies[node] = graph.create_node("call_function", node.target, (copies[anchor], *where))
                continue
            twin = graph.node_copy(node, copies.__getitem__)
            copies[node] = twin
            if node.op in ("call_module", "get_attr"):
                path, _, leaf = str(node.target).rpartition(".")
                _check_words(str(node.target).removeprefix(f"{ROOT}."))
                twin.target = str(node.target).removeprefix(f"{ROOT}.")
                _graft(root, twin.target, getattr(holder.get_submodule(path), leaf))
                if any(isinstance(v, nn.Parameter) for v in state_of(node, holder).values()):
                    names.append(twin.target if node.op == "call_module" else path.removeprefix(f"{ROOT}.") or leaf)
    result = tuple(copies[value] for value in run[-1].result)
    graph.output(result if len(result) > 1 else result[0])
    pool_first_in(graph, root)
    module = torch.fx.GraphModule(root, graph, class_name="Layer")
    _forget_constants(module, model)
    known = set(model.modules())
    for part in module.modules():
        if part not in known:
            part.training = model.training
    return Stage(tuple(names), module, run[-1].result[0].meta["batch"] or 0)


def _check_words(target: str) -> None:
    """Refuses names that are words of Python, which the code of a graph cannot hold."""
    if words := [word for word in target.split(".") if keyword.iskeyword(word)]:
        raise PartitionError(
            f"a part of the model has the name {words[0]!r} ({target}), a word of Python that code of a graph cannot "
            f"hold: name it otherwise, such as {words[0]}_"
        )


def _graft(root: nn.Module, target: str, value: Any) -> None:
    """Sets ``root.a.b.c`` for the target ``a.b.c``, and creates the modules ``a`` and ``a.b`` if they are missing."""
    *path, leaf = target.split(".")
    for name in path:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    if getattr(root, leaf, None) is not value:
        setattr(root, leaf, value)


def _forget_constants(module: nn.Module, model: nn.Module) -> None:
    """Takes buffers that are not in the state of the user's model out of the state of a stage."""
    lasting = model.state_dict(keep_vars=True).keys()
    for name, value in list(module.named_buffers()):
        if name not in lasting:
            path, _, leaf = name.rpartition(".")
            module.get_submodule(path).register_buffer(leaf, value, persistent=False)


def _run_blocks(blocks: Sequence[tuple[str, nn.Module]], sample: torch.Tensor) -> list[int]:
    """Returns the multiply-accumulates of each block in evaluation, for the batch ``sample``."""
    macs = []
    value: Any = sample
    with preserved(sample.device), torch.no_grad():
        for name, block in blocks:
            with mode(block, training=False), MacCounter() as counter:
                try:
                    value = block(value)
                except Exception as error:  # A user's forward may raise anything.
                    raise cannot_run(f"block {name}", sample, error) from error
            if not isinstance(value, torch.Tensor):
                raise PartitionError(
                    f"block {name} gives a {type(value).__name__} and not one tensor; "
                    "put it into one block with what takes it"
                )
            macs.append(counter.macs)
    return macs


def _blocks_sharing_state(blocks: list[nn.Module]) -> list[tuple[int, int]]:
    """Returns the first and last block that hold each parameter or buffer that more than one block holds."""
    ends: dict[int, tuple[int, int]] = {}
    for index, block in enumerate(blocks):
        for value in [*block.parameters(), *block.buffers()]:
            ends[id(value)] = (ends.get(id(value), (index, index))[0], index)
    return [(first, last) for first, last in ends.values() if first < last]


def _check(stages: Sequence[Stage], traced: Traced, model: nn.Module) -> None:
    """Checks that the stages, one after the other, give the logits that the model gave.

    Raises:
        PartitionError: They fail, or give other logits.
    """
    value: Any = traced.sample
    with preserved(traced.sample.device), torch.no_grad():
        for stage in stages:
            with mode(stage.module, training=False):
                try:
                    value = stage.module(value)
                except Exception as error:  # A user's code may raise anything.
                    raise cannot_run(f"{type(model).__name__} in pieces", traced.sample, error, WAY_OUT) from error
    # The bits may differ: without gradients, torch may choose a faster kernel.
    if not torch.allclose(value, traced.logits, rtol=1e-3, atol=1e-4, equal_nan=True):
        if _draws_in_evaluation(model, traced.sample):
            raise PartitionError(
                f"{type(model).__name__} draws random numbers in evaluation, too, so its answers differ from call to "
                "call: a dropout in a forward needs training=self.training, as in F.dropout(x, 0.5, self.training), an "
                "nn.Dropout is made in __init__; other draws belong into a submodule that leaves them out in evaluation"
            )
        raise PartitionError(
            f"{type(model).__name__} does not compute the same in pieces, because its forward decides by more than "
            "its input; pass the model as a list of blocks"
        )


def _draws_in_evaluation(model: nn.Module, sample: torch.Tensor) -> bool:
    """Tells whether a model that runs on a sample draws numbers for it, or answers it in two ways, in evaluation."""
    with preserved(sample.device), torch.no_grad(), mode(model, training=False):
        before = torch.get_rng_state()
        one, other = (list(tensors_in(model(sample))) for _ in range(2))
        drawn = not torch.equal(before, torch.get_rng_state())
    return drawn or any(not torch.allclose(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
