"""Defines the state that a server step needs beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedlp_edge.core.algorithm.aggregation import Array


@dataclass(frozen=True)
class ServerState:
    """The state of the server optimizer and of the global model's history after a round; empty before the first one.

    Only `Checkpoints` gives its tensors flat names, in a file.

    Attributes:
        first_moments: First moment of the server optimizer by parameter, in its shape; a missing one is zero.
        second_moments: Second moment of the server optimizer by parameter, in its shape; a missing one is zero.
        averages: Running average of the weights by tensor (``ServerSettings.ema``).
        last_updates: Last update that was applied to each parameter; empty unless units are recycled.
        changes: Last relative change by unit, in float32 precision; empty unless rates or recycling need it.
    """

    first_moments: dict[str, Array] = field(default_factory=dict)
    second_moments: dict[str, Array] = field(default_factory=dict)
    averages: dict[str, Array] = field(default_factory=dict)
    last_updates: dict[str, Array] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
