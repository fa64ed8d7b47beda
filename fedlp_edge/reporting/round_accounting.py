"""What a round's books say, as ``summary.json`` tells it: the same for real fleets and simulated ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedlp_edge.core.accounting import parameters, parameters_sent
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.reporting.summary import DeviceRound

Lack = Literal["lost", "rejected", "failed"]


@dataclass(frozen=True)
class Delivery:
    """What is known of an update that counts.

    Attributes:
        kept: names of the tensors that it brought, by unit id.
        samples: that it rests on.
        weight: that it was averaged with.
        loss: mean training loss of the last epoch.
        seconds: of training.
        bytes_down: model bytes to the device.
        bytes_up: update bytes from it.
        compute: mode that it was computed in.
    """

    kept: Mapping[str, Sequence[str]]
    samples: int
    weight: int
    loss: float
    seconds: float
    bytes_down: int
    bytes_up: int
    compute: str = ""


def device_round(
    place: CohortMember,
    profile: str,
    units: Sequence[Unit],
    outcome: Delivery | Lack,
    *,
    bytes_down: int = 0,
    staleness: int = 0,
    reason: str = "",
) -> DeviceRound:
    """One device's line.

    Args:
        place: in the cohort.
        profile: name of its class.
        units: that a device of its depth exchanges.
        outcome: its delivery, or why there is none.
        bytes_down: to a device that did not deliver.
        staleness: versions of the model made since the device got its own.
        reason: why there is no delivery, in words.
    """
    if not isinstance(outcome, Delivery):
        return DeviceRound(
            id=place.device,
            profile=profile,
            depth=place.depth,
            lpr=place.lpr,
            status=outcome,
            encoding=place.encoding,
            params_down=parameters(units),
            bytes_down=bytes_down,
            reason=reason,
        )
    return DeviceRound(
        id=place.device,
        profile=profile,
        depth=place.depth,
        lpr=place.lpr,
        status="contributed",
        encoding=place.encoding,
        layers_sent=tuple(unit.id for unit in units if outcome.kept.get(unit.id)),
        samples=outcome.samples,
        loss=outcome.loss,
        seconds=outcome.seconds,
        params_down=parameters(units),
        params_up=parameters_sent(units, outcome.kept),
        bytes_down=outcome.bytes_down,
        bytes_up=outcome.bytes_up,
        compute=outcome.compute,
        staleness=staleness,
    )


def coverage(blueprint: Blueprint, deliveries: Mapping[str, tuple[Collection[str], int]]) -> dict[str, dict[str, int]]:
    """The coverage ledger: weight by device, for every unit of the global model.

    Args:
        blueprint: of the model.
        deliveries: by device, the units that it sent and the weight of its update.
    """
    return {
        unit.id: {device: weight for device, (sent, weight) in sorted(deliveries.items()) if unit.id in sent}
        for unit in blueprint.global_units
        if unit.tensors
    }
