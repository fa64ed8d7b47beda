"""The numbers of the fleet's classes, as they go into every job and assignment of a run."""

from __future__ import annotations

import logging

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.class_names import ClassNames
from fedlp_edge.core.device_data import DataFacts, listed, mismatch
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.storage.journal import Journal

log = logging.getLogger("fedlp.coordinator")


class FleetClasses:
    """What the classes of a run are called, agreed from the reports and journaled.

    Args:
        model: as it is configured.
        blueprint: of the model.
        journal: remembers what was agreed.
        test_data: of the coordinator's own samples; None without.
        devices: reports after which nobody else is waited for.
    """

    def __init__(
        self, model: ModelSettings, blueprint: Blueprint, journal: Journal, test_data: DataFacts | None, devices: int
    ) -> None:
        self._model = model
        self._blueprint = blueprint
        self._journal = journal
        self._wanted = devices
        self._heard: set[str] = set()
        self._names = ClassNames(blueprint.classes, model.class_names or journal.class_names())
        if test_data is not None:
            self._take(test_data)

    @property
    def model(self) -> ModelSettings:
        """The model's settings with the names that are agreed by now."""
        return msgspec.structs.replace(self._model, class_names=self._names.names)

    @property
    def names(self) -> tuple[str, ...]:
        """By class number; empty where classes are numbers alone."""
        return self._names.names

    @property
    def settled(self) -> bool:
        """Whether devices can be told their numbers."""
        return self._names.settled

    def reported(self, device: str, data: DataFacts | None) -> bool:
        """Takes a device's report; returns whether what devices are to be told has changed."""
        before = (self.settled, self.names)
        self._heard.add(device)
        if data is not None:
            self._take(data)
        if not self.settled and len(self._heard) >= self._wanted and self._names.settle():
            self._remember()
        return (self.settled, self.names) != before

    def refusal(self, data: DataFacts | None) -> str | None:
        """Why the model cannot learn from a device's samples; None if it can, or if the device does not tell."""
        if data is None:
            return None
        return mismatch(data, self._blueprint.input_shape, self._blueprint.classes, self.names)

    def _take(self, data: DataFacts) -> None:
        if self._names.offer(data.classes):
            self._remember()

    def _remember(self) -> None:
        self._journal.put_class_names(self.names)
        log.info("the classes are, by number: %s", listed(self.names))
