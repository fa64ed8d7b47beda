"""Splits a user's model into the layers that the fleet trains, draws and averages."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
import torch.fx
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.core.device_data import listed
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.heads import Feature, exit_head, feature_of, has_channels_first, replace_classifier
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.tensor_kinds import mark_frozen
from fedlp_edge.learning.model.wrappers import unwrapped
from fedlp_edge.learning.partition.kept_state import left_as_they_were, modules_of
from fedlp_edge.learning.partition.lost_state import warn_of_lost_state
from fedlp_edge.learning.partition.naming import layer_names
from fedlp_edge.learning.partition.stages import Stage, is_single_layer, stages_of_blocks, stages_of_graph
from fedlp_edge.learning.partition.tracing import mode
from fedlp_edge.learning.rng import preserved, seeded
from fedlp_edge.learning.sample_values import first_that_runs, zeros_and_ones

log = logging.getLogger("fedlp.learning")

DEFAULT_DEPTHS = 8
"""Largest number of layers of a module that is split at its cut points, unless the caller asks for another number."""

SEQUENTIAL_DEPTHS = 32
"""Largest number of layers of an ``nn.Sequential``, unless the caller asks for another number: what a machine measures
before its first round grows with the square of it, to minutes on small ones."""

_SAME_ANSWER = 1e-3
"""Largest difference of a sample's logits alone and in a batch, as a share of the largest logit: kernels round."""


def partition(
    model: nn.Module | Sequence[nn.Module],
    example_input: torch.Tensor,
    num_classes: int | None = None,
    head_mode: HeadMode = "shared",
    depths: int | None = None,
    *,
    seed: int = 0,
) -> LayeredModel:
    """Splits a classifier into layers and gives each depth an exit head.

    The forward pass of a module is recorded on a few samples and cut where a single feature is passed on. The blocks of
    an ``nn.Sequential`` or of a list are not split: each block with parameters starts a layer, and the last of these is
    the classifier. A sequence in which one block has all weights is recorded like any module; a list of one block has
    one depth. The result shares the modules of ``model``, which is not changed; the split depends on the model and
    the shape of the input alone. A ``DataParallel`` or compiled model is unwrapped first.

    Args:
        model: Module, or list of blocks, from a tensor [B, ...] to logits [B, classes]; floating-point parameters and
            buffers must be float32.
        example_input: One sample or more, [B, ...]; only the shape and type matter. If it holds integers (token ids),
            the result also takes integers in floating-point format, which is what data sets give.
        num_classes: Number of logits; if it differs from that of the model, a copy of the classifier gets a fresh last
            layer. None keeps the number of the model.
        head_mode: ``"shared"`` averages the shallow exit heads over the fleet; ``"personal"`` (as in the FedLP paper,
            arXiv 2303.06360) keeps them on their devices.
        depths: Largest number of layers; None means at most 8 for a module, at most 32 for an ``nn.Sequential``, and
            all blocks of a list.
        seed: Seed of the initial weights of new heads.

    Raises:
        PartitionError: The model cannot be split; the message says why, and what to do.
    """
    if depths is not None and depths < 1:
        raise PartitionError(f"a model cannot have {depths} depths; ask for at least one")
    if head_mode not in get_args(HeadMode):
        raise PartitionError(f"head_mode is {' or '.join(get_args(HeadMode))}, not {head_mode!r}")
    if not isinstance(example_input, torch.Tensor) or example_input.dim() < 2 or len(example_input) == 0:
        raise PartitionError("example_input must be a tensor with a batch dimension, like torch.zeros(1, 3, 32, 32)")
    # Two samples reveal a model that takes another dimension for the batch.
    sample = torch.cat([example_input[:1].detach()] * 2)
    if isinstance(model, nn.Module):
        model = unwrapped(model)
        _mark_evaluated(model)
    blocks = _explicit_blocks(model)
    with left_as_they_were(modules_of(model)):
        stages = _stages(model, blocks, sample, depths)
        features, logits = _tried(stages, sample)
    warn_of_lost_state(blocks or [("", stage.module) for stage in stages], sample)
    _warn_of_batch_statistics(stages)
    return _with_exits(stages, sample, features, num_classes or logits.shape[1], logits.shape[1], head_mode, seed)


def _stages(
    model: nn.Module | Sequence[nn.Module],
    blocks: list[tuple[str, nn.Module]] | None,
    sample: torch.Tensor,
    depths: int | None,
) -> list[Stage]:
    """Splits a model, or its blocks, into the layers and the classifier, none of which changes what others need."""
    if blocks is not None:
        for _, block in blocks:
            _check_state(block)
        most = SEQUENTIAL_DEPTHS if isinstance(model, nn.Sequential) else None
        stages = stages_of_blocks(blocks, sample, depths or most)
    else:
        assert isinstance(model, nn.Module)
        _check_state(model)
        stages = stages_of_graph(model, sample, depths or DEFAULT_DEPTHS)
        _check_samples_are_apart(stages, sample)
    if not sample.is_floating_point():
        stages[0] = replace(stages[0], module=_with_first(stages[0].module, "whole_numbers", ToIntegers()))
    elif _changes_input(stages[0].module, sample):
        stages[0] = replace(stages[0], module=_with_first(stages[0].module, "own_copy", OwnCopy()))
    _protect_features(stages, sample)
    return stages


def _mark_evaluated(model: nn.Module) -> None:
    """Marks the modules that a ``train()`` of the user's own keeps in evaluation: layers do not call it."""
    if all(type(module).train is nn.Module.train for module in model.modules()):
        return
    try:
        trained = copied(model, [model]).train()
    except Exception:  # The user's code may raise anything; splitting names it.
        return
    for module, twin in zip(model.modules(), trained.modules(), strict=True):
        if not twin.training:
            mark_frozen(module)


class ToIntegers(nn.Module):
    """Converts token ids in floating-point format, as data sets give them, to integers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x``, [B, ...] of any type, as int64."""
        return x.long()


class OwnCopy(nn.Module):
    """Copies the input of a layer that changes it in place, as ``x -= 0.5`` does: others still need it."""

    def forward(self, x: Any) -> Any:
        """Returns a copy of ``x``, [B, ...], or of the first tensor of a tuple, behind which others are passed on."""
        return (x[0].clone(), *x[1:]) if isinstance(x, tuple) else x.clone()


def _protect_features(stages: list[Stage], sample: torch.Tensor) -> None:
    """Has layers behind the first copy their input if they write into it: the exit head before them needs it, too."""
    value: Any = sample
    for index, stage in enumerate(stages):
        if index and _changes_input(stage.module, value):
            stages[index] = replace(stage, module=_with_first(stage.module, "own_copy", OwnCopy()))
        with preserved(sample.device), torch.no_grad(), mode(stage.module, training=False):
            value = stages[index].module(value)


def _changes_input(layer: nn.Module, given: Any) -> bool:
    """Tells whether a layer writes into its input: torch counts the changes of a tensor and of its views."""
    feature = feature_of(given).clone()
    before = feature._version
    with preserved(feature.device), torch.no_grad(), mode(layer, training=False):
        layer((feature, *given[1:]) if isinstance(given, tuple) else feature)
    return feature._version != before


def _with_first(layer: nn.Module, name: str, conversion: nn.Module) -> nn.Module:
    """Puts a module without state before a layer; the names of the layer's state do not change."""
    conversion.training = layer.training
    if isinstance(layer, nn.Sequential):
        wrapped = nn.Sequential(OrderedDict([(name, conversion), *_blocks_of(layer)]))
        wrapped.training = layer.training
        return wrapped
    assert isinstance(layer, torch.fx.GraphModule)
    layer.add_submodule(name, conversion)
    given = next(iter(layer.graph.nodes))
    with layer.graph.inserting_after(given):
        converted = layer.graph.call_module(name, (given,))
    given.replace_all_uses_with(converted, delete_user_cb=lambda user: user is not converted)
    layer.recompile()
    return layer


def _explicit_blocks(model: object) -> list[tuple[str, nn.Module]] | None:
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        blocks = _blocks_of(model)
        holders = [block for _, block in blocks if any(True for _ in block.parameters())]
        # What stands before or behind a whole network, as a normalisation does, makes it no sequence of layers.
        return None if len(holders) == 1 and not is_single_layer(model) else blocks
    if isinstance(model, (list, tuple, nn.ModuleList)):
        wrong = [type(block).__name__ for block in model if not isinstance(block, nn.Module)]
        if wrong:
            raise PartitionError(f"a block must be an nn.Module, not a {wrong[0]}; wrap functions in a module")
        return [(str(index), unwrapped(block)) for index, block in enumerate(model)]
    if isinstance(model, nn.Module):
        return None
    raise PartitionError(f"a model is an nn.Module or a list of them, not a {type(model).__name__}")


def _blocks_of(model: nn.Sequential) -> list[tuple[str, nn.Module]]:
    # named_children() would leave out a block that the sequence calls a second time.
    blocks = [(name, block) for name, block in model.named_modules(remove_duplicate=False) if name and "." not in name]
    return [(name, unwrapped(block)) for name, block in blocks]


def _check_state(model: nn.Module) -> None:
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise PartitionError(
                f"{name} is TorchScript (torch.jit), which cannot be split; give the module that it was made from"
            )
        kind = type(part)
        if (
            ".quantized." in kind.__module__
            and kind.__module__.startswith(("torch.ao.", "torch.nn."))
            and kind.__name__ != "FloatFunctional"  # which adds in floating point, to be quantised later
        ):
            raise PartitionError(
                f"{name} is quantised ({kind.__name__}), and such weights cannot be trained: give the model in "
                "floating point; fedlp export --precision int8 makes a small file of it"
            )
    exchanged = {id(value) for value in model.state_dict(keep_vars=True).values()}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(value):
            raise PartitionError(f"the size of {name} is not known yet; call the model once on an example")
        if value.layout != torch.strided:
            raise PartitionError(
                f"{name} is a sparse tensor, which neither layers nor ONNX files hold: make it dense, by to_dense()"
            )
        if value.is_meta:
            raise PartitionError(f"{name} has no values (it is on the meta device): make the model on the CPU")
        if value.is_complex() and id(value) in exchanged:
            raise PartitionError(
                f"{name} is complex, and layers are exchanged as float32: hold its real and imaginary parts, as "
                "torch.view_as_real gives them, and put them together in the forward by torch.view_as_complex"
            )
        if value.is_floating_point() and value.dtype != torch.float32:
            raise PartitionError(
                f"{name} is {str(value.dtype).removeprefix('torch.')}, and layers are exchanged as float32; "
                "call model.float() first"
            )


def _tried(stages: list[Stage], sample: torch.Tensor) -> tuple[list[Any], torch.Tensor]:
    """Returns the output of each layer and the logits [B, classes], which it checks.

    Raises:
        PartitionError: Nothing can be trained, or what the model gives are no logits.
    """
    _check_learns(stages, sample)
    features, logits = _run(stages, sample)  # without gradients, so that modules keep nothing of the pass before
    if logits.dim() == 1 and len(logits) == len(sample):
        raise PartitionError(
            f"the model gives one number a sample as [{len(sample)}] for a batch of {len(sample)}: leave out the "
            f"squeeze at its end, so that it gives [{len(sample)}, 1]"
        )
    if logits.dim() != 2 or len(logits) != len(sample) or not logits.is_floating_point():
        way_out = "wrap it in a module that ends in a classifier"
        if logits.dim() > 2 and len(logits) == len(sample):
            way_out += "; maps, as of a segmentation, are learned flattened, by a task of your own (docs/tasks.md)"
        raise PartitionError(
            f"the model gives {list(logits.shape)} for a batch of {len(sample)}, not logits [batch, classes]; {way_out}"
        )
    if _are_probabilities(logits):
        raise PartitionError(
            "the model gives probabilities, not logits: leave out the softmax at its end (training and fedlp infer "
            "apply their own; with two it learns little, and no answer is ever sure)"
        )
    return features, logits


def _with_exits(
    stages: list[Stage],
    sample: torch.Tensor,
    features: list[Any],
    classes: int,
    own_classes: int,
    head_mode: HeadMode,
    seed: int,
) -> LayeredModel:
    """Gives each layer an exit head, and the classifier, which has ``own_classes`` logits, ``classes`` of them."""
    *layers, own = stages
    classifier = own.module
    with seeded(seed):
        if classes != own_classes:
            classifier = copied(classifier, [classifier])
            replace_classifier(classifier, classes, own_classes)
        parameters = [_count(layer.module) for layer in layers]
        whole = sum(parameters) + _count(classifier)
        exits = []
        for depth, (layer, feature) in enumerate(zip(layers[:-1], features, strict=False), start=1):
            shape = tuple(feature_of(feature).movedim(layer.batch, 0).shape[1:])
            head = exit_head(
                shape,
                classes,
                channels_first=has_channels_first(layer.module, shape),
                budget=whole - sum(parameters[:depth]),
            )
            if isinstance(feature, tuple) or layer.batch:
                head = nn.Sequential(OrderedDict([("feature", Feature(layer.batch)), *head.named_children()]))
            head = head.to(sample.device).eval()
            with torch.no_grad():
                given = tuple(head(feature).shape)
            if given != (len(sample), classes):
                raise PartitionError(
                    f"layer {depth} gives a feature without the samples in its first dimension (an exit gives "
                    f"{list(given)} for {len(sample)} samples); pass blocks that do"
                )
            exits.append((f"exit {depth}", head.train(classifier.training)))
    names = layer_names([stage.holders for stage in stages])
    return LayeredModel(
        list(zip(names[:-1], (layer.module for layer in layers), strict=True)),
        [*exits, (names[-1], classifier)],
        sample[:1],
        classes=classes,
        head_mode=head_mode,
    )


def _check_learns(stages: list[Stage], sample: torch.Tensor) -> None:
    """Checks that the weights of the model can be trained.

    Raises:
        PartitionError: All of them are frozen, or no gradient flows from the logits to any.
    """
    if not any(parameter.requires_grad for stage in stages for parameter in stage.module.parameters()):
        raise PartitionError(
            "all weights of the model are frozen (requires_grad = False), so there is nothing to train; leave "
            "its classifier to be trained, at least"
        )
    value: Any = sample
    with preserved(sample.device), torch.enable_grad():
        for stage in stages:
            with mode(stage.module, training=False):
                value = stage.module(value)
    if not value.requires_grad:
        raise PartitionError(
            "no gradient flows from the model's logits to its weights, so nothing can be trained; leave out detach(), "
            "torch.no_grad, numpy, and weights that are quantised"
        )


def _are_probabilities(logits: torch.Tensor) -> bool:
    """Returns whether all rows are positive and sum to 1, as after a softmax; rows of logits hardly ever are."""
    rows = logits.double().sum(dim=1)
    return bool((logits > 0).all()) and torch.allclose(rows, torch.ones_like(rows), rtol=0, atol=1e-5)


def _check_samples_are_apart(stages: list[Stage], sample: torch.Tensor) -> None:
    """Checks that a sample gets the same answer alone as in a batch: models answer one at a time where they work.

    Raises:
        PartitionError: It gets another one, or one of another shape.
    """
    found = first_that_runs(
        lambda several: (several, _run(stages, several.clone())[1], _run(stages, several[:1].clone())[1]),
        _several(sample),
    )
    if found is None:  # a single sample may mean nothing to the user's model
        return
    several, together, alone = found
    if together.dim() != 2:  # no logits, which is said later
        return
    if alone.shape != together[:1].shape:
        raise PartitionError(
            f"the model gives {list(alone.shape)} for a single sample, not {list(together[:1].shape)}: name the "
            "dimension that a squeeze or reshape in it takes away, so that it is never that of the batch"
        )
    difference = float((alone - together[:1]).abs().max())
    if _norms_of_batches(stages) or difference <= _SAME_ANSWER * float(together.abs().max()):
        return
    changes_by_itself = not torch.equal(together, _run(stages, several.clone())[1])  # as quantisers that observe do
    if math.isfinite(difference) and not changes_by_itself:
        raise PartitionError(
            f"the model's answer to a sample depends on the others in its batch (logits differ by {difference:.3g}): "
            "take means and deviations over the dimensions of each sample, not over the batch, or use constants; if it "
            "is meant, pass the model as a list of blocks"
        )


def _several(sample: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields batches of samples that differ from each other, the next one for models that do not take the last."""
    if not sample.is_floating_point():
        yield sample
        return
    generator = torch.Generator().manual_seed(0)
    several = torch.rand(sample.shape, generator=generator).to(sample)
    several[1:] = 5 * several[1:] - 2  # of another mean and spread
    yield several
    yield zeros_and_ones(sample.shape).to(sample)


def _norms_of_batches(stages: list[Stage]) -> list[str]:
    """Returns the names of the batch norms that keep no running statistics, and so always use those of the batch."""
    return [
        name
        for stage in stages
        for name, module in stage.module.named_modules()
        if isinstance(module, _BatchNorm) and not module.track_running_stats
    ]


def _warn_of_batch_statistics(stages: list[Stage]) -> None:
    if norms := _norms_of_batches(stages):
        log.warning(
            "%s with track_running_stats=False: the model's answer to a sample depends on the others in its batch, in "
            "exported files too, and one alone is answered otherwise or not at all; leave that out, or use GroupNorm",
            listed(norms),
        )


def _run(stages: list[Stage], sample: torch.Tensor) -> tuple[list[Any], torch.Tensor]:
    """Returns the output of each layer in evaluation, and the logits [B, classes]."""
    features = []
    value: Any = sample
    with preserved(sample.device), torch.no_grad():
        for stage in stages:
            with mode(stage.module, training=False):
                value = stage.module(value)
            features.append(value)
    return features[:-1], features[-1]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
