"""Makes the model of a round, and makes it again without an update that would spoil it.

Admission judges each update alone, before it knows the others. Here they are seen together: an update far larger than
the cohort's is left out; the model that comes of the others must be finite, with statistics that can be; and its loss
may not explode: at once where the coordinator has data, and a round later where the devices judge, whose median counts.
Whoever is left out is the one that stands out most, so the same updates give the same model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from coordinator.limits import LIMITS
from coordinator.rounds.round_updates import RoundUpdates
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.plausibility import find_suspect
from fedlp_edge.wire.messages import Offer

log = logging.getLogger("fedlp.coordinator")


class RoundCheck:
    """The maker of one run's models, which leaves an update out that would spoil a model.

    Args:
        model: Global model that takes the server steps.
        norm_ratio: Largest ratio of norms, see ``AdmissionLimits``.
        withdrawn: Function that is called with every update that is left out, and with the reason.
    """

    def __init__(self, model: GlobalModel, norm_ratio: float, withdrawn: Callable[[Offer, str], None]) -> None:
        self._model = model
        self._norm_ratio = norm_ratio
        self._withdrawn = withdrawn
        self._before = (model.weights, model.state)
        self._loss: Mapping[int, float] = {}
        self._stepped = False
        self._suspect: str | None = None
        self._distrusted: dict[str, str] = {}

    def apply(self, updates: RoundUpdates, loss: Mapping[int, float] | None = None, classes: int = 0) -> None:
        """Makes the next model from the updates of a round.

        Args:
            updates: Updates of the round.
            loss: Where devices judge, the median of what they found for the model that the round started from, by
                depth. If it has exploded by the step before, and one device stands out that may have spoilt it, the
                model goes back to that of before, no update of this round counts, and no later one of that device.
            classes: Number of classes of the model; 0 for another task, of whose loss nothing is known beforehand.
        """
        if loss and self._went_back(updates, loss, classes):
            return
        self._before = (self._model.weights, self._model.state)
        for device in sorted(self._distrusted.keys() & updates.accepted.keys()):
            self._leave_out(updates, device, self._distrusted[device])
        deviations = updates.deviations(self._model.weights)
        too_large = {d: times for d, times in deviations.items() if self._norm_ratio and times > self._norm_ratio}
        for device, times in sorted(too_large.items()):
            words = f"{times:.3g} times as large as the others'"
            self._leave_out(updates, device, f"the update is {words}; [limits] norm_ratio is {self._norm_ratio:g}")
        self._settle(updates)
        self._suspect = find_suspect(updates.deviations(self._before[0]) if too_large else deviations)
        self._step(updates)
        self._stepped = True

    def _went_back(self, updates: RoundUpdates, loss: Mapping[int, float], classes: int) -> bool:
        worst = self._exploded(loss, classes)
        if worst is None:
            self._loss = dict(loss)
            return False
        spoilt, culprit = updates.round - 1, self._suspect
        words = f"with it the devices' median loss of depth {worst} is {loss[worst]:.3g}"
        if culprit is None or not self._stepped:
            log.warning("round %d: the devices' median loss of depth %d is %.3g, and no device's update stands out: "
                        "is [training] lr or [server] lr too high?", spoilt, worst, loss[worst])  # fmt: skip
            self._loss = dict(loss)
            return False
        log.warning("the model goes back to that of before round %d, and %s is left out from now on: %s",
                    spoilt, culprit, words)  # fmt: skip
        self._model.restore(*self._before)
        self._distrusted[culprit] = f"its update of round {spoilt} was left out: {words}"
        self._stepped, self._suspect = False, None
        for device in sorted(updates.accepted):
            self._withdrawn_from(updates, device, f"it started from the model of round {spoilt}, which was taken back")
        return True

    def _withdrawn_from(self, updates: RoundUpdates, device: str, reason: str) -> None:
        self._withdrawn(updates.withdraw(device, reason), reason)

    def _exploded(self, loss: Mapping[int, float], classes: int) -> int | None:
        """Returns the depth whose loss says that the model is spoilt; None if there is none."""
        guessed = math.log(max(2, classes)) if classes else 0.0
        ratios = {}
        for depth, found in loss.items():
            # A loss that is 0 or less, as that of a task of the user's own may be, has no multiple to be compared with.
            usual = max(guessed, self._loss.get(depth, 0.0))
            ratios[depth] = math.inf if not math.isfinite(found) else found / usual if usual > 0 else 0.0
        worst = max(ratios, key=lambda depth: ratios[depth], default=None)
        return worst if worst is not None and ratios[worst] > LIMITS.loss_explosion else None

    def withdraw_outlier(self, updates: RoundUpdates, loss: Mapping[int, float], classes: int) -> bool:
        """Judges the model by its loss; if somebody stands out who spoilt it, makes it again without that one.

        Args:
            updates: Updates of the round that ``apply`` was called with.
            loss: Mean loss on held-out data, by depth; of a classification among the classes that these data hold.
            classes: Number of classes of the model; 0 for another task.

        Returns:
            Whether there is another model now, to be judged again.
        """
        worst = self._exploded(loss, classes)
        if worst is None:
            self._loss = dict(loss)
            return False
        culprit = find_suspect(updates.deviations(self._before[0]))
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
        self._withdrawn_from(updates, device, reason)
