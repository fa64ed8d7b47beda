"""Fills a layered model with start weights from a file, an earlier run or torchvision, and reports what was taken.

Files have the names of the user's model, perhaps with a prefix that a wrapper gave them (``module.``, ``model.``), or
those of a layered model (``L1.``, ``H3.``), as checkpoints of runs have. Both are brought to the names of the user's
model, so that a run of other depths fits as well. A head whose outputs differ starts anew; a layer whose shape differs
is a sign of another model, which is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.start_weights import StartWeights, StartWeightsReport
from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.start_weights_file import file_digest
from fedlp_edge.learning.weight_files import AVERAGES, read_weights
from fedlp_edge.learning.zoo.published_weights import fetch_published

_LAYERED = re.compile(r"(?P<kind>[LH])(?P<depth>[1-9][0-9]*)\.(?P<name>.+)", re.DOTALL)
_SHARE_OF_FILE, _SHARE_OF_MODEL = 0.05, 0.5
"""Shares of the names of a file and of a model that a prefix has at least, to be taken for that of a wrapper. A file
may hold other models beside the one that is wanted; a model is not wrapped in parts."""

_WRAPPERS = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)(?=\.)")
"""What torch.compile, FSDP, activation checkpointing and Fabric put into names, also in their middle."""
_RENAMED = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("weight_orig", "parametrizations.weight.original"),
    ("weight_u", "parametrizations.weight.0._u"),
    ("weight_v", "parametrizations.weight.0._v"),
)
"""Pairs of names of one tensor of a module: of TensorFlow's layer norms, and of weight and spectral norms before and
after they became parametrizations."""

_ADAPTER = re.compile(r"\.(?:lora_[AB]|lora_(?:down|up)|hada_w\d_a)\b|\.lora_[AB]\.")
_PICTURE_CHANNELS, _MATRIX = (1, 3), 2

_POSITIONS = ("pos_embedding", "pos_embed", "position_embedding")
"""Last parts of the names of tables of positions, [1, positions, width], whose length follows the size of the input."""


def start_from(model: LayeredModel, settings: ModelSettings, weights: StartWeights) -> StartWeightsReport:
    """Fills a model with start weights, in place.

    Args:
        model: Newly built model, on the CPU.
        settings: Settings that it was built from.
        weights: Start weights.

    Raises:
        StartWeightsError: The weights cannot be read, hold no finite numbers, or are those of another model.
    """
    path = Path(weights.path) if weights.path else fetch_published(settings.name, weights.source)
    digest = file_digest(path)
    if weights.sha256 not in ("", digest):
        raise StartWeightsError(f"{path} has changed: its SHA-256 is {digest}, and was {weights.sha256}")
    tensors = _read_tensors(path)
    targets = _Targets.of(model)
    keys = _matched(targets, tensors, path)
    draft = _Draft(settings.input[0] if settings.input else 0)
    for name, spec in targets.specs.items():
        if weights.reset_heads and name[0] == "H":
            draft.anew[name] = "reset_heads"
        else:
            draft.add(name, spec, tensors.get(keys.get(name, "")), path, head=name[0] == "H")
    draft.start_whole_modules_anew()
    if not any(name[0] == "L" for name in draft.values):
        raise StartWeightsError(
            f"nothing in {path} fits the layers of {settings.name}: it has {_listed(tensors)}; the model has "
            f"{_listed([targets.shown(name) for name in targets.specs])}"
        )
    held = model.state_dict()
    with torch.no_grad():
        for name, value in draft.values.items():
            held[name].copy_(value)
    return StartWeightsReport(
        source=weights.source,
        sha256=digest,
        taken=tuple(targets.shown(name) for name in draft.values if name not in draft.reshaped),
        reshaped={targets.shown(name): how for name, how in draft.reshaped.items()},
        anew={targets.shown(name): why for name, why in draft.anew.items()},
        left_out=_left_out(tensors, targets, keys, held),
        parameters=sum(value.numel() for value in draft.values.values()),
        of=sum(spec.numel for spec in targets.specs.values()),
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Returns the floating-point tensors of a file.

    Raises:
        StartWeightsError: The file cannot be read, or holds no weights that a model can start from.
    """
    held = read_weights(path)
    tensors = {name: value for name, value in held.items() if value.is_floating_point()}
    if held and not tensors:
        raise StartWeightsError(
            f"{path} holds whole numbers alone, as a quantised model does: give the weights before quantisation"
        )
    if adapter := next((name for name in tensors if _ADAPTER.search(name)), None):
        raise StartWeightsError(
            f"{path} holds adapters beside the weights ({adapter}): merge them first, as peft's merge_and_unload() does"
        )
    return tensors


def _left_out(
    tensors: Collection[str], targets: _Targets, keys: Mapping[str, str], held: Collection[str]
) -> tuple[str, ...]:
    """Returns the names of a file that are none of the model's.

    Args:
        tensors: Names in the file.
        targets: Tensors that could be filled.
        keys: Name in the file of each of them that has one.
        held: Names of all tensors of the layered model, in which constants have names of the file, too.
    """
    used = {keys[name] for name in targets.specs if name in keys}
    shared = {name.partition(".")[0] for name in targets.specs}
    known = {
        part for name in held for unit, _, tail in [name.partition(".")] if unit in shared for part in (name, tail)
    }
    return tuple(name for name in tensors if name not in used and name not in known)


@dataclass(frozen=True)
class _Targets:
    """The tensors of a layered model that start weights can fill.

    Attributes:
        specs: Every floating-point tensor of the global model, by its name in the layered model.
        names: Its names by depth and by the name in the user's model.
        own: The names of those that the user's model has as well.
    """

    specs: Mapping[str, TensorSpec]
    names: _Layout
    own: frozenset[str]

    @classmethod
    def of(cls, model: LayeredModel) -> _Targets:
        full = len(model.depths)
        units = [u for u in model.units if u.kind == "layer" or model.head_mode == "shared" or u.depth == full]
        specs = {tensor.name: tensor for unit in units for tensor in (*unit.tensors, *unit.constants)}
        layout = _Layout.of(specs)
        return cls(specs, layout, frozenset(layout.original.values()))

    def shown(self, name: str) -> str:
        """Returns the name for people: that in the user's model, with the unit before it for a head of our own."""
        return name.partition(".")[2] if name in self.own else name


@dataclass(frozen=True)
class _Layout:
    """Which names of a layered model belong to which depth.

    Attributes:
        original: Names of the tensors of the layers and of the deepest head, by their names in the user's model.
        layers: The same names of the layers alone, by depth.
        heads: Names of the tensors of each head, by depth and by their names without the unit.
    """

    original: Mapping[str, str]
    layers: Mapping[int, frozenset[str]]
    heads: Mapping[int, Mapping[str, str]]

    @classmethod
    def of(cls, names: Collection[str]) -> _Layout:
        split = [(match["kind"], int(match["depth"]), match["name"], name) for name in names
                 if (match := _LAYERED.fullmatch(name))]  # fmt: skip
        full = max((depth for kind, depth, _, _ in split if kind == "L"), default=0)
        own = [entry for entry in split if entry[0] == "L" or entry[1] == full]
        # A user who splits a model alone may give several layers the same names, which then need the unit before them.
        unique = len({name for _, _, name, _ in own}) == len(own)
        layers = {
            depth: frozenset(
                name if unique else whole for kind, at, name, whole in split if kind == "L" and at == depth
            )
            for depth in range(1, full + 1)
        }
        heads: dict[int, dict[str, str]] = {}
        for kind, depth, name, whole in split:
            if kind == "H":
                heads.setdefault(depth, {})[name] = whole
        return cls({name if unique else whole: whole for _, _, name, whole in own}, layers, heads)

    def prefixes(self) -> dict[frozenset[str], int]:
        """Returns the depths by what is computed up to them."""
        seen: frozenset[str] = frozenset()
        result = {}
        for depth, names in sorted(self.layers.items()):
            seen |= names
            result[seen] = depth
        return result


@dataclass
class _Draft:
    """What becomes of each tensor of the model.

    Args:
        channels: Channels of the model's input.

    Attributes:
        values: Values that are taken, by name in the layered model.
        reshaped: How the shape was changed, by name.
        anew: Why a tensor keeps its random values, by name.
        other_shapes: Modules of heads with a tensor whose shape in the file is another.
    """

    channels: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: dict[str, str] = field(default_factory=dict)
    anew: dict[str, str] = field(default_factory=dict)
    other_shapes: set[str] = field(default_factory=set)

    def add(self, name: str, spec: TensorSpec, value: Tensor | None, path: Path, *, head: bool) -> None:
        """Decides about one tensor.

        Raises:
            StartWeightsError: Its value is of another model, or no possible value.
        """
        if value is None:
            self.anew[name] = "not in the file"
            return
        fitted = _fitted(value.float(), spec.shape, name)
        if fitted is None and name.startswith("L1."):
            fitted = _for_channels(value.float(), spec.shape, self.channels)
        if fitted is None and head:
            self.anew[name] = f"{list(value.shape)} in the file, {list(spec.shape)} in the model"
            self.other_shapes.add(name.rpartition(".")[0])
            return
        if fitted is None:
            raise StartWeightsError(
                f"{name.partition('.')[2]} is {list(value.shape)} in {path} and {list(spec.shape)} in the model: the "
                "weights are of another model, or of another variant of it"
            )
        if spec.kind != "constant" and not bool(fitted.isfinite().all()):
            raise StartWeightsError(f"{name.partition('.')[2]} in {path} holds numbers that are not finite")
        if spec.least is not None and fitted.numel() and float(fitted.min()) < spec.least:
            raise StartWeightsError(f"{name.partition('.')[2]} in {path} is below {spec.least:g}, which it cannot be")
        self.values[name] = fitted
        if tuple(value.shape) != spec.shape:
            self.reshaped[name] = f"{list(value.shape)} to {list(spec.shape)}"

    def start_whole_modules_anew(self) -> None:
        """Drops what was taken of modules whose shapes differ: a bias is of no use without its weight."""
        for name in [name for name in self.values if name.rpartition(".")[0] in self.other_shapes]:
            del self.values[name]
            self.reshaped.pop(name, None)
            self.anew[name] = "belongs to a tensor of another shape"


def _matched(targets: _Targets, tensors: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Returns the name in the file for each name of the layered model that has one.

    Raises:
        StartWeightsError: The file holds several networks that fit.
    """
    of_a_run = [name for name in tensors if _LAYERED.fullmatch(name)]
    layered = _matched_to_layers(targets.names, _Layout.of(of_a_run)) if of_a_run else {}
    networks = _matched_to_names(targets.names.original, tensors)
    plain = next(iter(networks.values()), {})
    if len(layered) >= len(plain):
        return layered
    if len(networks) == 1 or len(plain) < _SHARE_OF_MODEL * len(targets.names.original):
        return plain
    return _chosen(networks, targets.specs, tensors, path)


def _chosen(
    networks: Mapping[str, dict[str, str]], specs: Mapping[str, TensorSpec], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, str]:
    """Returns the names of the network to take of several whose names fit: by its shapes, then a running average.

    Raises:
        StartWeightsError: Nothing tells which is meant.
    """
    fits = {
        prefix: sum(tuple(tensors[name].shape) == specs[whole].shape for whole, name in found.items())
        for prefix, found in networks.items()
    }
    fitting = [prefix for prefix in networks if fits[prefix] == max(fits.values())]
    fitting = [prefix for prefix in fitting if not set(prefix.split(".")).isdisjoint(AVERAGES)] or fitting
    first, *others = (networks[prefix] for prefix in fitting)
    # One module that is registered under two names is in the file twice.
    if all(torch.equal(tensors[first[whole]], tensors[name]) for other in others for whole, name in other.items()):
        return first
    shown = ", ".join(prefix or "no prefix" for prefix in fitting)
    keep = next(prefix for prefix in fitting if prefix)
    raise StartWeightsError(
        f"{path} holds several networks that fit, with the prefixes {shown}: save the one to start from alone, such as "
        f"{{name: value for name, value in state.items() if name.startswith({keep!r})}}"
    )


def _matched_to_layers(wanted: _Layout, given: _Layout) -> dict[str, str]:
    """Matches two layered models by the names of the user's model, and heads where the same layers lie before them."""
    found = {wanted.original[name]: given.original[name] for name in wanted.original if name in given.original}
    depths = given.prefixes()
    last = max(wanted.layers, default=0)
    for layers, depth in wanted.prefixes().items():
        twin = depths.get(layers)
        if twin is None or depth == last:
            continue
        here, there = wanted.heads.get(depth, {}), given.heads.get(twin, {})
        found |= {whole: there[name] for name, whole in here.items() if name in there}
    return found


def _matched_to_names(wanted: Mapping[str, str], tensors: Collection[str]) -> dict[str, dict[str, str]]:
    """Matches the names of the user's model to those of a file, of which either may have a prefix more.

    Returns:
        The best matches by their prefix in the file: one, or those of several networks that have all the same names.
    """
    given = {_unwrapped(name): name for name in tensors}
    wanted = {_unwrapped(name): whole for name, whole in wanted.items()}
    best: dict[str, str] = {}
    networks: dict[str, dict[str, str]] = {}
    for ours, theirs in product(_prefixes(wanted, _SHARE_OF_MODEL), _prefixes(given, _SHARE_OF_FILE)):
        found = {
            whole: given[theirs + there.removeprefix(ours)]
            for name, whole in wanted.items()
            for there in _names_of(name, wanted)
            if name.startswith(ours) and theirs + there.removeprefix(ours) in given
        }
        if len(found) > len(best):
            best, networks = found, {theirs: found}
        elif best.keys() == found.keys() and set(found.values()).isdisjoint(best.values()):
            networks.setdefault(theirs, found)
    return networks


def _unwrapped(name: str) -> str:
    return _WRAPPERS.sub("", name).removeprefix(".")


def _names_of(name: str, wanted: Collection[str]) -> Iterator[str]:
    """Yields the names that a tensor had in other versions, and at last its own, which counts where a file has both."""
    for pair in _RENAMED:
        for ours, theirs in (pair, pair[::-1]):
            other = name.removesuffix(ours) + theirs
            if f".{name}".endswith(f".{ours}") and other not in wanted:
                yield other
    yield name


def _prefixes(names: Collection[str], share: float) -> list[str]:
    """Returns the prefixes that a wrapper may have given to names, the empty one first."""
    counted = Counter(prefix for name in names for prefix in _modules(name))
    usual = [prefix for prefix, count in counted.items() if count >= share * len(names)]
    return ["", *sorted(usual, key=lambda prefix: (prefix.count("."), prefix))]


def _modules(name: str) -> Iterator[str]:
    path = ""
    for part in name.split(".")[:-1]:
        path += f"{part}."
        yield path


def _fitted(value: Tensor, shape: tuple[int, ...], name: str) -> Tensor | None:
    """Returns a value in the wanted shape; None if there is no way that keeps its meaning."""
    if tuple(value.shape) == shape:
        return value
    if [side for side in value.shape if side != 1] == [side for side in shape if side != 1]:
        return value.reshape(shape)
    if name.rpartition(".")[2] in _POSITIONS and len(shape) == value.dim() == 3 and value.shape[2] == shape[2]:
        return _resized_positions(value, shape[1])
    return None


def _for_channels(value: Tensor, shape: tuple[int, ...], channels: int) -> Tensor | None:
    """Returns a first convolution [out, in, ...] for another number of channels; None if it is none.

    The kernels are those of the channels in turn, scaled so that a picture with equal channels gets the same answer;
    for one channel, as of grey or thermal pictures, they are summed.
    """
    if len(shape) <= _MATRIX or value.dim() != len(shape) or value.shape[0] != shape[0]:
        return None
    before = value.shape[1]
    if value.shape[2:] != shape[2:] or shape[1] != channels or before not in _PICTURE_CHANNELS:
        return None
    if channels == 1:
        return value.sum(dim=1, keepdim=True)
    return value[:, torch.arange(channels) % before] * (before / channels)


def _resized_positions(value: Tensor, count: int) -> Tensor | None:
    """Returns a table of positions [1, 1 + side², width] for another side, interpolated as by torchvision."""
    before, after = ((number - 1) ** 0.5 for number in (value.shape[1], count))
    if not (before.is_integer() and after.is_integer() and before and after):
        return None
    grid = value[:, 1:].reshape(1, int(before), int(before), -1).movedim(-1, 1)
    resized = functional.interpolate(grid, size=(int(after), int(after)), mode="bicubic", align_corners=True)
    return torch.cat([value[:, :1], resized.flatten(2).movedim(1, -1)], dim=1)


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if shown else "no tensors"
