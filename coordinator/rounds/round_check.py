"""Makes the model of a round, and makes it again without an update that would spoil it.

Admission judges each update alone, before it knows the others. Here they are seen together: an update far larger than
the cohort's is left out; the model that comes of the others must be finite, with statistics that can be; and where the
coordinator has data, its loss may not explode. Whoever is left out is the one that stands out most, so the same
updates give the same model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from coordinator.limits import LIMITS
from coordinator.rounds.round_updates import RoundUpdates
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.plausibility import suspect
from fedlp_edge.wire.messages import Offer

log = logging.getLogger("fedlp.coordinator")


class RoundCheck:
    """Of one run.

    Args:
        model: takes the steps.
        norm_ratio: see ``AdmissionLimits``.
        withdrawn: told of every update that is left out, and why.
    """

    def __init__(self, model: GlobalModel, norm_ratio: float, withdrawn: Callable[[Offer, str], None]) -> None:
        self._model = model
        self._norm_ratio = norm_ratio
        self._withdrawn = withdrawn
        self._before = (model.weights, model.state)
        self._loss: Mapping[int, float] = {}

    def make(self, updates: RoundUpdates) -> None:
        """Takes the model one round further, with the updates of a round."""
        self._before = (self._model.weights, self._model.state)
        for device, deviation in sorted(updates.deviations(self._model.weights).items()):
            if self._norm_ratio and deviation > self._norm_ratio:
                times = f"{deviation:.3g} times as large as the others'"
                self._leave_out(updates, device, f"the update is {times}; [limits] norm_ratio is {self._norm_ratio:g}")
        self._settle(updates)
        self._step(updates)

    def spoilt(self, updates: RoundUpdates, loss: Mapping[int, float], classes: int) -> bool:
        """Judges the model by its loss; if somebody stands out who spoilt it, makes it again without that one.

        Args:
            updates: of the round that ``make`` was called with.
            loss: mean cross-entropy on held-out data, by depth, among the classes that these data hold.
            classes: of the model.

        Returns:
            Whether there is another model now, to be judged again.
        """
        limits = {
            depth: LIMITS.loss_explosion * max(math.log(max(2, classes)), self._loss.get(depth, 0.0)) for depth in loss
        }
        worst = max(loss, key=lambda depth: loss[depth] / limits[depth], default=None)
        if worst is None or loss[worst] <= limits[worst]:
            self._loss = dict(loss)
            return False
        culprit = suspect(updates.deviations(self._before[0]))
        words = f"with it the loss of depth {worst} is {loss[worst]:.3g}"
        if culprit is None:
            log.warning("round %d: the loss of depth %d is %.3g, and no device's update stands out: "
                        "is [training] lr or [server] lr too high?", updates.round, worst, loss[worst])  # fmt: skip
            return False
        self._model.restore(*self._before)
        self._leave_out(updates, culprit, words)
        self._settle(updates)
        self._step(updates)
        return True

    def _step(self, updates: RoundUpdates) -> None:
        self._model.step(updates.round, updates.mean)
        while problem := self._model.problem():
            deviations = updates.deviations(self._before[0])
            self._model.restore(*self._before)
            if not deviations:
                log.error("round %d changes nothing: %s", updates.round, problem)
                return
            self._leave_out(updates, min(deviations, key=lambda device: (-deviations[device], device)), problem)
            self._settle(updates)
            self._model.step(updates.round, updates.mean)

    def _settle(self, updates: RoundUpdates) -> None:
        if limit := updates.settle(self._before[0]):
            log.warning("round %d: beside the heaviest device, rounding would take %.2g of the changes of %s away, so "
                        "none counts as more than %d samples; a lower [rounds] max_sample_ratio avoids that",
                        updates.round, limit.share, limit.unit, limit.most)  # fmt: skip

    def _leave_out(self, updates: RoundUpdates, device: str, reason: str) -> None:
        log.warning("round %d is made without the update of %s: %s", updates.round, device, reason)
        self._withdrawn(updates.withdraw(device, reason), reason)
