"""This module makes what is told of a round, in ``summary.json`` and by its event, for real and simulated fleets."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedlp_edge.core.accounting import parameters, parameters_sent
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.reporting.events import RoundFinished
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary

Lack = Literal["lost", "rejected", "failed"]


@dataclass(frozen=True)
class Delivery:
    """The figures of an update that counts.

    Attributes:
        sent: Names of the sent tensors, by unit id.
        samples: Number of training samples behind the update.
        weight: Update weight in the average.
        loss: Mean training loss of the last epoch.
        seconds: Seconds of training.
        bytes_down: Model bytes sent to the device.
        bytes_up: Update bytes received from the device.
        payload_down: Bytes of the blobs that the device lacked, without headers and repeats.
        payload_up: Bytes of the update, without headers and repeats.
        compute: Compute mode of the training.
    """

    sent: Mapping[str, Sequence[str]]
    samples: int
    weight: int
    loss: float
    seconds: float
    bytes_down: int
    bytes_up: int
    payload_down: int = 0
    payload_up: int = 0
    compute: str = ""


def device_round(
    place: CohortMember,
    profile: str,
    units: Sequence[Unit],
    outcome: Delivery | Lack,
    *,
    bytes_down: int = 0,
    payload_down: int = 0,
    staleness: int = 0,
    reason: str = "",
) -> DeviceRound:
    """Makes the entry of one device.

    Args:
        place: Cohort member.
        profile: Name of the device's profile.
        units: Units that a device of its depth exchanges.
        outcome: Delivery, or the kind of failure.
        bytes_down: Model bytes sent to a device that did not deliver.
        payload_down: Bytes of the blobs among them, without headers and repeats.
        staleness: Number of model versions made since the device got its version.
        reason: Reason of the failure, as text.
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
            payload_down=payload_down,
            staleness=staleness,
            reason=reason,
        )
    return DeviceRound(
        id=place.device,
        profile=profile,
        depth=place.depth,
        lpr=place.lpr,
        status="contributed",
        encoding=place.encoding,
        layers_sent=tuple(unit.id for unit in units if outcome.sent.get(unit.id)),
        samples=outcome.samples,
        loss=outcome.loss,
        seconds=outcome.seconds,
        params_down=parameters(units),
        params_up=parameters_sent(units, outcome.sent),
        bytes_down=outcome.bytes_down,
        bytes_up=outcome.bytes_up,
        payload_down=outcome.payload_down,
        payload_up=outcome.payload_up,
        compute=outcome.compute,
        staleness=staleness,
    )


def coverage(blueprint: Blueprint, deliveries: Mapping[str, tuple[Collection[str], int]]) -> dict[str, dict[str, int]]:
    """Returns the update weight by device, for every unit of the global model.

    Args:
        blueprint: Blueprint of the model.
        deliveries: Sent units and update weight, by device id.
    """
    return {
        unit.id: {device: weight for device, (sent, weight) in sorted(deliveries.items()) if unit.id in sent}
        for unit in blueprint.global_units
        if unit.tensors
    }


def round_finished(summary: RoundSummary, contributors: int, warning: str = "") -> RoundFinished:
    """Makes the event of a round that was committed just now.

    Args:
        summary: Entry of the round.
        contributors: Number of updates that count.
        warning: Suspicion about the accuracy; empty for none.
    """
    return RoundFinished(
        time=time.time(),
        round=summary.round,
        seconds=summary.seconds,
        accuracy=summary.accuracy,
        metrics=summary.metrics,
        on_devices=summary.on_devices,
        not_reporting=summary.not_reporting,
        contributors=contributors,
        lost=tuple(device.id for device in summary.devices if device.status == "lost"),
        bytes_down=sum(device.bytes_down for device in summary.devices),
        bytes_up=sum(device.bytes_up for device in summary.devices),
        warning=warning,
    )
