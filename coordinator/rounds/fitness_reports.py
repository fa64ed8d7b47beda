"""Journals and reports which devices can take part: who is unfit, who is set aside, and that nobody is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from coordinator.limits import LIMITS
from coordinator.run_context import RunContext
from coordinator.summary_file import SummaryFile
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.errors import DeviceError
from fedlp_edge.reporting import events

log = logging.getLogger("fedlp.coordinator")


class FitnessReports:
    """The reports of what the round machine decides about devices, for the journal and for people.

    Args:
        context: Context of the run.
        bases: Basis of each known device's fitness, which the membership keeps up to date.
        summary_file: Updated when a device turns out to be unfit.
    """

    def __init__(self, context: RunContext, bases: Mapping[str, str], summary_file: SummaryFile) -> None:
        self._context = context
        self._bases = bases
        self._summary_file = summary_file

    def changed(self, device: str, fitness: Fitness, *, finished: bool) -> None:
        """Reports that a device failed, or is trusted again.

        Args:
            device: Id of the device.
            fitness: Present fitness.
            finished: The last round is committed, so the summary waits for the final models.
        """
        self._context.journal.put_fitness(device, self._bases.get(device, ""), fitness)
        now, reason = time.time(), fitness.reason
        if fitness.lasting:
            log.warning("%s cannot take part: %s", device, reason)
            self._context.emit(events.DeviceUnfit(time=now, device=device, explanation=reason))
        elif fitness.out:
            log.warning("%s is set aside after %d failures in a row: %s", device, fitness.failures, reason)
            self._context.emit(
                events.DeviceSetAside(
                    time=now, device=device, failures=fitness.failures, again=fitness.round, reason=reason
                )
            )
        else:
            return
        if not finished:
            self._summary_file.update()

    def all_devices_unfit(self, reasons: Mapping[str, str], seconds: float) -> None:
        """Reports that none of the devices that are online can do its task.

        Args:
            reasons: Reasons by device.
            seconds: Seconds after which the run is given up; 0 gives it up now.

        Raises:
            DeviceError: The run is given up.
        """
        explanation = explain_all_unfit(reasons)
        if not seconds:
            raise DeviceError(explanation)
        log.warning("%s; the run ends in %.0f s unless that changes", explanation, seconds)
        self._context.emit(events.AllDevicesUnfit(time=time.time(), explanation=explanation, seconds=seconds))


def explain_all_unfit(reasons: Mapping[str, str]) -> str:
    """Returns why no device can take part; a reason that all share is named once."""
    if len(reasons) == 1:
        [(device, reason)] = reasons.items()
        return f"the only device, {device}, cannot do its task: {reason}"
    if len(different := set(reasons.values())) == 1:
        return f"none of the {len(reasons)} devices can do its task, all for the same reason: {different.pop()}"
    shown = "; ".join(f"{device}: {reason}" for device, reason in list(reasons.items())[: LIMITS.named_devices])
    more = f"; and {len(reasons) - LIMITS.named_devices} more" if len(reasons) > LIMITS.named_devices else ""
    return f"none of the {len(reasons)} devices can do its task: {shown}{more}"
