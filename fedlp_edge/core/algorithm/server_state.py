"""What a server step rests on beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedlp_edge.core.algorithm.aggregation import Array


@dataclass(frozen=True)
class ServerState:
    """The history of the global model after a round; empty before the first.

    `Checkpoints` gives its tensors flat names in a file; nobody else does.

    Attributes:
        first_moments: first moment of the optimiser by parameter, in the shape of the parameter; zero where missing.
        second_moments: second moment by parameter, likewise.
        averages: running average of the weights by tensor (``ServerSettings.ema``).
        last_updates: what was last applied to a parameter (kept where units are recycled).
        changes: last relative change by unit, of float32 precision (kept where rates or recycling need it).
    """

    first_moments: dict[str, Array] = field(default_factory=dict)
    second_moments: dict[str, Array] = field(default_factory=dict)
    averages: dict[str, Array] = field(default_factory=dict)
    last_updates: dict[str, Array] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
