"""A two-layer model as plain data, and honest updates of it, for tests of admission."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.wire.admission import Expectation
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitPayload, UnitVersion
from fedlp_edge.wire.tensors import Array, pack

RUN = "run-1"
DEVICE = "pi-1"

BLUEPRINT = Blueprint(
    model="tiny",
    input_shape=(2,),
    classes=2,
    head_mode="shared",
    units=(
        Unit("L1", "0", "layer", 1, (TensorSpec("a.weight", (2, 2), "trained"), TensorSpec("a.bias", (2,), "trained"))),
        Unit(
            "L2",
            "1",
            "layer",
            2,
            (TensorSpec("b.weight", (3, 2), "trained"), TensorSpec("b.var", (), "statistic", 0.0)),
        ),
        Unit("H1", "exit", "head", 1, (TensorSpec("h1.weight", (2, 2), "trained"),)),
        Unit("H2", "out", "head", 2, (TensorSpec("h2.weight", (2, 3), "trained"),)),
    ),
    costs=(DepthCost(1, 10, 8, 16), DepthCost(2, 18, 20, 40)),
)


def delta(name: str, value: float = 0.5) -> Array:
    """A tensor of the blueprint filled with one value."""
    shapes = {tensor.name: tensor.shape for unit in BLUEPRINT.units for tensor in unit.tensors}
    return np.full(shapes[name], value, dtype=np.float32)


def expectation(**sent: tuple[str, ...]) -> Expectation:
    """Of DEVICE in round 3 at depth 2 with 100 samples: L1 and H2 unless something else is said."""
    return Expectation(DEVICE, 3, 2, 100, sent or {"L1": ("a.weight", "a.bias"), "H2": ("h2.weight",)})


def update(parts: Mapping[str, bytes] | None = None, **changes: object) -> tuple[Offer, bytes]:
    """An offer and its blob: what ``expectation()`` asks for unless something else is said."""
    if parts is None:
        first = pack({"a.weight": delta("a.weight"), "a.bias": delta("a.bias", -1.0)})
        parts = {"L1": first, "H2": pack({"h2.weight": delta("h2.weight", 2.0)})}
    units, offset = [], 0
    for unit, part in parts.items():
        units.append(UnitPayload(unit, offset, len(part)))
        offset += len(part)
    blob = b"".join(parts.values())
    fields: dict[str, object] = {
        "run": RUN,
        "round": 3,
        "device": DEVICE,
        "session": "s1",
        "digest": digest_of(blob),
        "size": len(blob),
        "units": tuple(units),
        "samples": 100,
        "loss": 1.5,
        "seconds": 2.0,
        "bytes_down": 0,
    }
    return Offer(**(fields | changes)), blob  # type: ignore[arg-type]


def version(unit: str, blob: bytes) -> UnitVersion:
    """The version that a coordinator would announce for these bytes."""
    return UnitVersion(unit, digest_of(blob), len(blob), 1024)
