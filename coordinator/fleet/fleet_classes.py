"""Agrees on the numbers of a fleet's classes and the scale of its features, which go into every job and assignment."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from coordinator.limits import LIMITS
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.class_names import ClassNames
from fedlp_edge.core.device_data import DataFacts, feature_mismatch, listed, mismatch, target_mismatch
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.standardisation.input_statistics import InputStatistics
from fedlp_edge.core.standardisation.unlike_columns import UnlikeColumn
from fedlp_edge.core.targets import BUILT_IN_TASKS, TargetKind
from fedlp_edge.storage.journal import Journal

log = logging.getLogger("fedlp.coordinator")


_TEST_DATA = ""
"""The coordinator's own samples, whose names go before any device's: what they call a class can be judged."""


class FleetClasses:
    """The names of a run's classes and the statistics of its features, agreed from the devices' reports and journaled.

    Args:
        model: Settings of the model as it is configured.
        blueprint: Blueprint of the model.
        journal: Remembers what was agreed.
        test_data: Facts of the coordinator's own samples; None without.
        devices: Reports after which nobody else is waited for.
        clock: Monotonic seconds.
        targets: Kind of the targets that a task of the user's own learns.
    """

    def __init__(
        self,
        model: ModelSettings,
        blueprint: Blueprint,
        journal: Journal,
        test_data: DataFacts | None,
        devices: int,
        clock: Callable[[], float],
        targets: TargetKind | None = None,
    ) -> None:
        self._model = model
        self._kind = BUILT_IN_TASKS.get(model.task) or targets
        self._blueprint = blueprint
        self._journal = journal
        self._wanted = devices
        self._clock = clock
        self._settle_at: float | None = None
        self._heard: set[str] = set()
        self._useless: set[str] = set()
        self._names = ClassNames(_named_outputs(model, blueprint), model.class_names or journal.class_names())
        self._features = InputStatistics(_configured(model) or journal.columns("features"))
        self._targets = InputStatistics(_configured_targets(model) or journal.columns("targets"))
        if test_data is not None:
            self._take(_TEST_DATA, test_data, None)
            if len(test_data.classes) == _named_outputs(model, blueprint) and self._names.settle():
                self._remember()

    @property
    def model(self) -> ModelSettings:
        """The model's settings with the names and statistics that are agreed by now."""
        model = msgspec.structs.replace(self._model, class_names=self._names.names)
        return model.scaled_by(self._features.agreed).with_targets(self._targets.agreed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names by class number; empty where classes are numbers alone."""
        return self._names.names

    @property
    def settled(self) -> bool:
        """Whether the names and statistics are agreed, so that devices can be assigned."""
        return self._names.settled and not self._features.open and not self._targets.open

    @property
    def waiting_for(self) -> str:
        """What the names and statistics wait for, for the owner of a device."""
        missing = self._wanted - len(self._heard | self._useless)
        if missing > 0:
            others = "another device" if missing == 1 else f"{missing} others"
            return f"the fleet waits for {others} before it agrees on its data"
        return "the fleet is agreeing on its data"

    def reported(self, device: str, data: DataFacts | None, samples: int) -> bool:
        """Takes a device's report; returns whether what devices are to be told has changed."""
        before = (self.settled, self.names)
        if self._mismatch(data, ()):
            self._useless.add(device)  # whatever its classes are called; nobody waits for it any longer
        else:
            self._heard.add(device)
            self._useless.discard(device)
            if data is not None:
                self._take(device, data, samples)
        enough = bool(self._heard) and len(self._heard | self._useless) >= self._wanted
        if not self.settled and self._settle_at is None and enough:
            # Those that were there before the coordinator report in one go, and all of them should be heard.
            waiting = self._names.offered or self._features.open or self._targets.open
            self._settle_at = self._clock() + (LIMITS.class_settle_seconds if waiting else 0.0)
        return self.tick() or (self.settled, self.names) != before

    def tick(self) -> bool:
        """Ends the waiting when its time has come; returns whether it did just now."""
        if self.settled or self._settle_at is None or self._clock() < self._settle_at:
            return False
        if self._names.settle():
            self._remember()
        if self._features.settle() and self._features.agreed is not None:
            self._journal.put_columns("features", self._features.agreed)
            log.info("the features are, in this order: %s", listed(self._features.names))
        if self._targets.settle() and self._targets.agreed is not None:
            targets = self._targets.agreed
            if set(targets.names) == set(self.names):  # in the order of the model's outputs
                targets = targets.arranged(self.names)
            self._journal.put_columns("targets", targets)
        return True

    def refusal(self, data: DataFacts | None) -> str | None:
        """Returns why the model cannot learn from a device's samples; None if it can, or the device tells nothing."""
        return self._mismatch(data, self.names)

    def unlike_columns(self, device: str, data: DataFacts | None) -> list[UnlikeColumn]:
        """Returns the features and targets of a device whose values look as if they had another unit than elsewhere."""
        if data is None:
            return []
        found = [] if data.features is None else self._features.unlike(device, data.features)
        if self._model.task == "regression" and data.targets is not None:
            found += self._targets.unlike(device, data.targets)
        return found

    def _mismatch(self, data: DataFacts | None, names: tuple[str, ...]) -> str | None:
        if data is None:
            return None
        wanted = self._kind
        if reason := target_mismatch(data, wanted) or feature_mismatch(data, self._features.names):
            return reason
        own_task = self._model.task not in BUILT_IN_TASKS
        return mismatch(data, self._blueprint.input_shape, self._blueprint.classes, names, wanted, own_task=own_task)

    def _take(self, site: str, data: DataFacts, samples: int | None) -> None:
        if data.features is not None:
            self._features.offer(site, data.features, decides=site == _TEST_DATA)
        kind = self._kind or data.target_kind
        if self._model.task == "regression" and data.targets is not None:
            self._targets.offer(site, data.targets, decides=site == _TEST_DATA)
        # What looks like classes before the task is known, such as whole numbers, gives labels and targets no names.
        if self._names.offer(site, data.classes if data.target_kind == kind else (), samples):
            self._remember()

    def _remember(self) -> None:
        self._journal.put_class_names(self.names)
        log.info("the classes are, by number: %s", listed(self.names))


def _named_outputs(model: ModelSettings, blueprint: Blueprint) -> int:
    """Returns the number of classes, labels or targets that have names; a reconstruction has none."""
    if model.task == "anomaly":
        return 0
    return max(2, blueprint.classes) if model.task == "classification" else blueprint.classes


def _configured_targets(model: ModelSettings) -> ColumnSums | None:
    """Returns the statistics of the targets that the configuration states; None if it states none."""
    if not model.target_mean:
        return None
    names = model.class_names or tuple(str(number) for number in range(1, len(model.target_mean) + 1))
    return ColumnSums(
        names=names, count=1, mean=model.target_mean, deviations=tuple(std * std for std in model.target_std)
    )


def _configured(model: ModelSettings) -> ColumnSums | None:
    """Returns the statistics of the features that the configuration states; None if it states none."""
    if not model.input_names:
        return None
    return ColumnSums(
        names=model.input_names, count=1, mean=model.input_mean, deviations=tuple(std * std for std in model.input_std)
    )
