"""This module builds a layered model from model settings and a seed, with bitwise equal values every time."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import torch
from torch import nn

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError, PartitionError
from fedlp_edge.learning.foreign_code import load_object, misnamed, run_foreign_code
from fedlp_edge.learning.memory.limits import is_out_of_memory
from fedlp_edge.learning.model.heads import exit_head, has_channels_first, max_pooled_head
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.width import DEFAULT_RATIOS, WidthModel
from fedlp_edge.learning.model.wrappers import run_compiled_code_as_written
from fedlp_edge.learning.partition.kept_state import left_as_they_were, modules_of
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.partition.tracing import mode
from fedlp_edge.learning.rng import seeded
from fedlp_edge.learning.sample_values import token_sample
from fedlp_edge.learning.start_weights_file import start_weights_of
from fedlp_edge.learning.zoo.built_in import BUILT_IN
from fedlp_edge.learning.zoo.weight_loading import start_from
from fedlp_edge.system.loading.install_command import install_command

log = logging.getLogger("fedlp.learning")

_ONLY_SHAPES = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Alias",
    "Permute",
    "Transpose",
    "TBackward",
    "Clone",
)
"""First parts of the names that autograd gives to what changes the shape of a tensor and none of its values."""

_WEIGHT_FILES = (".pt", ".pth", ".safetensors", ".onnx", ".h5", ".keras", ".tflite", ".ckpt")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def build_model(settings: ModelSettings, seed: int, allow_models: Collection[str] | None = ()) -> LayeredModel:
    """Builds a model, splits it into layers, and fills it with its start weights.

    torch's global random numbers are not changed. torchvision is imported only for ``torchvision:NAME``.

    Args:
        settings: Settings that name the model, its input shape, its number of classes, and its start weights.
        seed: Seed of the values that no start weights give.
        allow_models: Names ``module:callable`` that may be imported and called, because importing runs code; None
            allows any name, for callers whose own user named the model.

    Raises:
        ModelError: The model is unknown, not allowed, or cannot be built for this input.
        PartitionError: The model cannot be split.
        FreezeError: What the settings freeze does not exist, or is all there is to train.
        StartWeightsError: The start weights are missing, are no weights, or belong to another model.
    """
    layered = build_untrained(settings, seed, allow_models)
    if (weights := start_weights_of(settings)) is not None:
        log.info("%s %s", settings.name, start_from(layered, settings, weights).line)
    return layered


def build_untrained(settings: ModelSettings, seed: int, allow_models: Collection[str] | None = ()) -> LayeredModel:
    """Builds a model with seeded initial weights and splits it into layers, whatever it is to start from.

    Args:
        settings: As for `build_model`; start weights are not looked at.
        seed: Seed of the initial weights.
        allow_models: As for `build_model`.

    Raises:
        ModelError: As for `build_model`.
        PartitionError: As for `build_model`.
        FreezeError: As for `build_model`.
    """
    layered = _split(_with_outputs(settings), seed, allow_models)
    if settings.scaling == "width":
        return WidthModel(layered, settings.width_ratios or DEFAULT_RATIOS)
    if settings.exit_heads != "model":
        make_head = exit_head if settings.exit_heads == "pooled" else max_pooled_head
        layered = _with_new_heads(layered, seed, make_head)
    layered.exit_mode = settings.exits
    if settings.freeze:
        layered.freeze(*settings.freeze)
    return layered


def _split(settings: ModelSettings, seed: int, allow_models: Collection[str] | None) -> LayeredModel:
    name = settings.name
    if name in BUILT_IN:
        if not settings.classes:
            raise ModelError(f"{name} has no number of classes of its own; set classes")
        return _checked(BUILT_IN[name](settings.input, settings.classes, settings.head_mode, seed), settings)
    model: nn.Module | list[nn.Module]
    if name.startswith("torchvision:"):
        model = _torchvision(name.removeprefix("torchvision:"), settings, seed)
    elif _CALLABLE.fullmatch(name):
        model = _users_own(name, settings, seed, allow_models)
    else:
        if remedy := misnamed(name):
            raise ModelError(f"{name}: {remedy}")
        if name.endswith(_WEIGHT_FILES):
            raise ModelError(f"{name!r} is a file; name how the model is made, and give its weights with weights =")
        near = _alike(name, BUILT_IN) or difflib.get_close_matches(name, BUILT_IN, n=1) or _in_torchvision(name)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(BUILT_IN)
        raise ModelError(f"unknown model {name!r}{hint} (known: {known}, torchvision:NAME, module:callable)")
    if isinstance(model, LayeredModel):
        return _checked(model, settings)
    return _partitioned(model, settings, seed)


def _with_outputs(settings: ModelSettings) -> ModelSettings:
    """Returns the settings with as many outputs as the task needs: a reconstruction is as large as the input."""
    if settings.task != "anomaly":
        return settings
    if settings.tokens:
        raise ModelError('task = "anomaly" reconstructs numbers, and tokens = true says that the input is none')
    return msgspec.structs.replace(settings, classes=math.prod(settings.input), class_names=())


def _flattened(model: nn.Module | list[nn.Module], sample: torch.Tensor) -> nn.Module | list[nn.Module]:
    """Returns a model that gives a reconstruction [B, ...] of its input so that it gives [B, outputs]."""
    if sample.ndim == 2:
        return model
    blocks = model if isinstance(model, list) else [model]
    reconstruction: Any = sample
    with torch.no_grad():
        for block in blocks:
            with mode(block, training=False):
                reconstruction = block(reconstruction)
    if not isinstance(reconstruction, torch.Tensor) or reconstruction.shape != sample.shape:
        return model
    if isinstance(model, list):
        return [*model, nn.Flatten()]
    named = model.named_children() if type(model) is nn.Sequential else [("autoencoder", model)]
    return nn.Sequential(OrderedDict([*named, ("flatten", nn.Flatten())]))


def _partitioned(model: nn.Module | list[nn.Module], settings: ModelSettings, seed: int) -> LayeredModel:
    """Splits a model into layers, which also runs the model's own code."""
    sample = token_sample(settings.input) if settings.tokens else torch.zeros(1, *settings.input)
    with _gpu_explained(), run_foreign_code(f"the model {settings.name}", ModelError, passing=is_out_of_memory):
        with left_as_they_were(modules_of(model)):
            _give_sizes(model, sample, seed)
            whole = _flattened(model, sample) if settings.task == "anomaly" else model
        layered = partition(
            whole,
            sample,
            num_classes=settings.classes or None,
            head_mode=settings.head_mode,
            depths=settings.depths or None,
            seed=seed,
        )
        if settings.task in ("classification", "multi-label") and _ends_in_sigmoid(layered, sample):
            raise PartitionError(
                "the model gives probabilities, not logits: leave out the sigmoid at its end (training and fedlp infer "
                "apply their own; with two of them no answer is ever sure)"
            )
        return layered


def _give_sizes(model: nn.Module | list[nn.Module], sample: torch.Tensor, seed: int) -> None:
    """Runs a model once that has lazy modules, which take their sizes from the first input that they see."""
    blocks = model if isinstance(model, list) else [model]
    if not all(isinstance(block, nn.Module) for block in blocks):
        return  # which splitting refuses by one line
    if not any(nn.parameter.is_lazy(value) for block in blocks for value in (*block.parameters(), *block.buffers())):
        return
    value: Any = sample
    with seeded(seed), torch.no_grad():
        for block in blocks:
            with mode(block, training=False):
                value = block(value)


def _ends_in_sigmoid(model: LayeredModel, sample: torch.Tensor) -> bool:
    """Tells whether the last thing that a model does to the values of its outputs is a sigmoid."""
    given = sample.clone().requires_grad_() if sample.is_floating_point() else sample
    with torch.enable_grad(), mode(model, training=False), left_as_they_were([model]):
        step = model(given).grad_fn
    while step is not None and step.name().startswith(_ONLY_SHAPES):
        step = next((before for before, _ in step.next_functions), None)
    return step is not None and step.name().startswith("SigmoidBackward")


def _with_new_heads(model: LayeredModel, seed: int, make_head: Callable[..., nn.Module]) -> LayeredModel:
    """Returns the model with other shallow heads, none of which has more parameters than the layers it replaces."""
    layers = [(unit.name, model.get_submodule(unit.id)) for unit in model.layer_units]
    classifier = model.head_units[-1]
    sample = model.sample
    left = sum(unit.parameters for unit in model.layer_units) + classifier.parameters
    heads: list[tuple[str, nn.Module]] = []
    with seeded(seed), torch.no_grad(), mode(model, training=False), left_as_they_were([model]):
        for depth, (unit, (_, layer)) in enumerate(zip(model.layer_units[:-1], layers, strict=False), start=1):
            left -= unit.parameters
            shape = tuple(model.activations(sample, depth).shape[1:])
            head = make_head(shape, model.classes, channels_first=has_channels_first(layer, shape), budget=left)
            heads.append((f"exit {depth}", head.train(model.training)))
    heads.append((classifier.name, model.get_submodule(classifier.id)))
    return LayeredModel(layers, heads, sample, classes=model.classes, head_mode=model.head_mode)


def _in_torchvision(name: str) -> list[str]:
    """Returns the specification of torchvision's classifier of such a name; none without it, or without torchvision."""
    try:
        from torchvision import models  # noqa: PLC0415  # takes 150 MB that other models do not need
    except (ImportError, RuntimeError):  # it may be built for another PyTorch
        return []
    return [f"torchvision:{found}" for found in _alike(name, models.list_models(module=models))]


def _alike(name: str, known: Iterable[str]) -> list[str]:
    """Returns the known names that differ from a name in capitals, blanks and hyphens alone."""

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower()))

    return [other for other in known if letters(other) == letters(name)]


def _torchvision(name: str, settings: ModelSettings, seed: int) -> nn.Module:
    try:
        from torchvision import models  # noqa: PLC0415  # takes 150 MB that other models do not need
    except ModuleNotFoundError as error:
        raise ModelError(f"torchvision:{name} needs torchvision ({error}); {install_command('vision')}") from error
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known)
        raise ModelError(f"torchvision has no classifier {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    options: dict[str, Any] = {"num_classes": settings.classes} if settings.classes else {}
    # Some constructors need the size of the image, or warn unless the kind of initialisation is set.
    if name.startswith("vit_"):
        if len(settings.input) != 3 or settings.input[1] != settings.input[2]:
            raise ModelError(f"torchvision:{name} takes square images, not {_shape(settings.input)}")
        options["image_size"] = settings.input[1]
    elif name.startswith("maxvit"):
        options["input_size"] = settings.input[1:]
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    try:
        with seeded(seed):
            model: nn.Module = models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, TypeError, AssertionError) as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"torchvision:{name} cannot be built for {_shape(settings.input)}: {reason}") from error
    return model


def _users_own(
    name: str, settings: ModelSettings, seed: int, allow_models: Collection[str] | None
) -> nn.Module | list[nn.Module]:
    if allow_models is not None and name not in allow_models:
        raise ModelError(
            f"the model {name} is code of its own, which this device does not run unasked; "
            f"start it with --allow-model {name} if you trust it"
        )
    source = f"the model {name}"
    function = load_object(name, ModelError)
    if not callable(function) or isinstance(function, nn.Module):
        kind = type(function).__name__
        if isinstance(function, Mapping):
            raise ModelError(
                f"{source} is the state of a model ({kind}): name a function that makes the model, and a file of the "
                "state with weights ="
            )
        raise ModelError(
            f"{source} is of type {kind}, not a function that makes a model: def make(): return {kind}(...)"
        )
    with _gpu_explained(), run_foreign_code(source, ModelError, passing=is_out_of_memory), seeded(seed):
        parameters = inspect.signature(function).parameters
        takes_classes = "num_classes" in parameters
        given = {"num_classes"} if settings.classes else set()
        if needed := [key for key, it in parameters.items() if key not in given and _is_required(it)]:
            raise ModelError(
                f"{source} takes arguments ({', '.join(needed)}) that nobody gives it: write a function that knows "
                f"them, def make(): return {name.rpartition(':')[2]}(...)"
            )
        model = function(num_classes=settings.classes) if takes_classes and settings.classes else function()
    run_compiled_code_as_written()
    return _checked_kind(model, name)


def _checked_kind(model: object, name: str) -> nn.Module | list[nn.Module]:
    """Returns what a user's function gave if it is a model or a list of blocks.

    Raises:
        ModelError: It is something else; the message says what to return.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, (list, tuple)):
        others = [type(part).__name__ for part in model if not isinstance(part, nn.Module)]
        if others and len(others) == len(model) - 1:
            raise ModelError(f"{name} gave a model and {', '.join(others)}: return the model alone")
        return list(model)
    if isinstance(model, type):
        raise ModelError(f"{name} gave the class {model.__name__}, not a model: return {model.__name__}(...)")
    kind, remedy = type(model).__name__, ""
    if isinstance(model, Mapping) and all(isinstance(value, torch.Tensor) for value in model.values()):
        remedy = ": return the model, and name a file of its state with weights ="
    elif kind == "ExportedProgram":
        remedy = ": return the module that it was exported from"
    raise ModelError(f"{name} gave a {kind}, not an nn.Module, a list of blocks, or a LayeredModel{remedy}")


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


@contextlib.contextmanager
def _gpu_explained() -> Iterator[None]:
    """Says what to leave out where a model moves itself to a GPU that this machine does not have."""
    try:
        yield
    except ModelError as error:
        if torch.cuda.is_available() or not re.search("CUDA|NVIDIA", str(error)):
            raise
        raise type(error)(
            f"{error}; leave out .cuda() and device=: each machine puts the model where it trains"
        ) from None


def _checked(model: LayeredModel, settings: ModelSettings) -> LayeredModel:
    """Checks that a model which its builder has split itself matches the settings, and sets its head mode."""
    if model.input_shape != settings.input:
        raise ModelError(
            f"{settings.name} gave a model for {_shape(model.input_shape)}, the configuration says "
            f"{_shape(settings.input)}"
        )
    if settings.classes not in (0, model.classes):
        raise ModelError(
            f"{settings.name} gave a model for {model.classes} classes, the configuration says {settings.classes}"
        )
    if settings.depths not in (0, len(model.depths)):
        raise ModelError(
            f"{settings.name} comes split into {len(model.depths)} depths, the configuration says {settings.depths}; "
            "leave depths out"
        )
    model.head_mode = settings.head_mode
    return model


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
