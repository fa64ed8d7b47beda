"""Counts communication and computation as the FedLP paper (arXiv 2303.06360) does.

Per device and round, it counts the parameters received and sent, without buffers and personal heads, and the forward
multiply-accumulates (MACs) of the submodel with its head. The bytes on the wire are measured elsewhere; reports show
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.settings import BroadcastEncoding, Encoding

SCALE_BLOCK = 32
"""Consecutive integers that share a scale of two bytes on the way to the devices, with every encoding but ``int8``."""

INT8_LEAST_SHARED = 8
"""Values of a channel below which weights stay float32, since the channel's scale would weigh too much."""

_BYTES = {"none": 4, "fp16": 2}
_LEVELS = {"int8": 255, "int4": 15, "int2": 3}
_LEVELS_PREFIX = "levels:"
_BITS_OF_LEVEL = {"int4": 4, "int2": 2}


class Communication(msgspec.Struct, frozen=True, kw_only=True):
    """The expected cost of one device in one round.

    Attributes:
        down_kparams: Thousands of parameters received.
        up_kparams: Thousands of parameters sent.
        communication_kparams: Thousands of parameters received and sent.
        forward_mmacs: Millions of MACs of the forward pass of one sample.
    """

    down_kparams: float
    up_kparams: float
    communication_kparams: float
    forward_mmacs: float


class TransferBytes(msgspec.Struct, frozen=True, kw_only=True):
    """The expected bytes of one device in one round, without headers and before compression.

    Attributes:
        down_bytes: Bytes of the model, if every unit has changed since the round before.
        up_bytes: Bytes of the update.
        once_bytes: Bytes of what nothing changes, such as frozen weights, which a device downloads once.
    """

    down_bytes: float
    up_bytes: float
    once_bytes: float


def expected_bytes(
    blueprint: Blueprint,
    depth_mix: Sequence[float],
    lpr: float,
    *,
    encoding: Encoding = "none",
    broadcast: BroadcastEncoding = "none",
) -> TransferBytes:
    """Returns the expected bytes over a mix of depths and the draws of FedLP-Homo, as they travel.

    Args:
        blueprint: Blueprint of the layered model.
        depth_mix: Share of the devices at depth 1, 2, ..., D; sums to 1.
        lpr: Layer-preserving rate of every layer.
        encoding: Encoding of the updates.
        broadcast: Encoding of the model.
    """
    down = up = once = 0.0
    for share, depth in zip(depth_mix, blueprint.depths, strict=True):
        for unit in blueprint.exchanged_by(depth):
            down += share * download_bytes(unit, broadcast)
            up += share * lpr * upload_bytes(unit, encoding)
            once += share * unit.fixed.nbytes
    return TransferBytes(down_bytes=down, up_bytes=up, once_bytes=once)


def communication(blueprint: Blueprint, depth_mix: Sequence[float], lpr: float) -> Communication:
    """Returns the expected cost over a mix of depths and the draws of FedLP-Homo.

    Args:
        blueprint: Blueprint of the layered model.
        depth_mix: Share of the devices at depth 1, 2, ..., D; sums to 1.
        lpr: Layer-preserving rate of every layer.

    Raises:
        ValueError: The mix does not have D shares that sum to 1, or the rate is not in [0, 1].
    """
    if len(depth_mix) != blueprint.full_depth:
        raise ValueError(
            f"the depth mix has {len(depth_mix)} shares, but {blueprint.model} has {blueprint.full_depth} depths"
        )
    if any(share < 0 for share in depth_mix) or not abs(sum(depth_mix) - 1) <= 1e-6:
        raise ValueError(f"the depth mix must be shares that sum to 1, not {sum(depth_mix):g}")
    if not 0 <= lpr <= 1:
        raise ValueError(f"the layer-preserving rate must be between 0 and 1, not {lpr:g}")
    down = sum(
        share * parameters(blueprint.exchanged_by(depth))
        for share, depth in zip(depth_mix, blueprint.depths, strict=True)
    )
    macs = sum(share * cost.forward_macs for share, cost in zip(depth_mix, blueprint.costs, strict=True))
    return Communication(
        down_kparams=down / 1e3,
        up_kparams=lpr * down / 1e3,
        communication_kparams=(1 + lpr) * down / 1e3,
        forward_mmacs=macs / 1e6,
    )


def level_count(encoding: str) -> int:
    """Returns the number of levels of an encoding; 0 if its numbers are not integers.

    Args:
        encoding: Encoding of an update or of a model, compressed or not.
    """
    name = encoding.removesuffix("+zstd")
    return int(name.removeprefix(_LEVELS_PREFIX)) if name.startswith(_LEVELS_PREFIX) else _LEVELS.get(name, 0)


def level_packing(encoding: str) -> tuple[int, int]:
    """Returns how many levels share a byte in an encoding of integers, and the base of the number that they form.

    ``int4`` and ``int2`` have 4 and 2 bits for each level. Of N levels named by their number as many share a byte as
    their powers allow, such as five of 3 levels, since 3^5 = 243.

    Args:
        encoding: Encoding of an update or of a model whose numbers are integers.
    """
    if bits := _BITS_OF_LEVEL.get(encoding.removesuffix("+zstd")):
        return 8 // bits, 1 << bits
    levels = level_count(encoding)
    together = 1
    while levels ** (together + 1) <= 1 << 8:
        together += 1
    return together, levels


def parameters(units: Iterable[Unit]) -> int:
    """Returns the number of trainable scalars of some units."""
    return sum(unit.parameters for unit in units)


def upload_bytes(unit: Unit, encoding: Encoding) -> int:
    """Returns the bytes of a unit in an update, without headers; statistics are always float32."""
    width = _BYTES.get(encoding.removesuffix("+zstd"))
    packed = -(-unit.parameters // level_packing(encoding)[0]) if width is None else width * unit.parameters
    return unit.nbytes - 4 * unit.parameters + packed


def download_bytes(unit: Unit, encoding: BroadcastEncoding) -> int:
    """Returns the bytes of a unit on its way to the devices, without headers and before compression.

    Trained values of one dimension and statistics are float32, except that ``fp16`` halves all trained values.
    """
    narrow = encoding.removesuffix("+zstd")
    if narrow == "none":
        return unit.nbytes
    total = 0
    for tensor in unit.tensors:
        if not tensor.trainable or (narrow != "fp16" and len(tensor.shape) < 2):
            total += 4 * tensor.numel
        elif narrow == "fp16":
            total += 2 * tensor.numel
        elif narrow == "int8":
            shared = tensor.numel >= INT8_LEAST_SHARED * tensor.shape[0]
            total += tensor.numel + 4 * tensor.shape[0] if shared else 4 * tensor.numel
        else:
            blocks = -(-tensor.numel // SCALE_BLOCK)
            total += -(-blocks * SCALE_BLOCK // level_packing(narrow)[0]) + 2 * blocks
    return total


def parameters_sent(units: Sequence[Unit], sent: Mapping[str, Sequence[str]]) -> int:
    """Trainable scalars of the tensors that a device sends (see ``selection.draw_sent_tensors``)."""
    return sum(
        tensor.numel
        for unit in units
        for tensor in unit.tensors
        if tensor.trainable and tensor.name in sent.get(unit.id, ())
    )
