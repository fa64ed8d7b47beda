"""Publishes the state of the run, retained, for programs that watch it at the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from coordinator.limits import LIMITS
from coordinator.monitoring.home_assistant import discovery_messages
from coordinator.monitoring.run_state import RunState, run_state
from coordinator.monitoring.settings import MonitoringSettings
from fedlp_edge.reporting.events import AnyEvent, RunStarted, RunStopped
from fedlp_edge.reporting.progress import RunProgress
from fedlp_edge.transport.base import Refused, Transport
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")


class StateTopic:
    """The topic with the state of the run, which does nothing unless the settings ask for it.

    Args:
        settings: What is to be published.
        transport: Started or not.
        topics: Topics of the fleet.
        clock: Monotonic seconds.
        earlier: Events of earlier lives of the run.
    """

    def __init__(
        self,
        settings: MonitoringSettings,
        transport: Transport,
        topics: Topics,
        clock: Callable[[], float],
        earlier: Callable[[], list[AnyEvent]] = list,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._topics = topics
        self._clock = clock
        self._progress = RunProgress()
        self._published: RunState | None = None
        self._due = 0.0
        self._descriptions: set[str] = set()
        self._is_refused = False
        for event in earlier() if settings.is_on else ():
            self._progress.apply(event)

    def take(self, event: AnyEvent) -> None:
        """Takes an event of the run, which the next tick publishes."""
        if not self._settings.is_on:
            return
        self._progress.apply(event)
        if isinstance(event, RunStarted) and self._settings.home_assistant:
            self._describe()

    def tick(self) -> None:
        """Publishes what is news, at most so often as its readers have a use for it."""
        if self._settings.is_on and self._progress.run and self._clock() >= self._due:
            self._publish()

    def connected(self) -> None:
        """Publishes everything again: the broker may have been started anew, and have forgotten it."""
        self._published, self._due = None, 0.0
        if self._settings.home_assistant and self._progress.run:
            self._describe()

    def refused(self, refusal: Refused) -> bool:
        """Takes what the broker refuses, and says so once; returns whether it was a description for Home Assistant."""
        if refusal.topic not in self._descriptions:
            return False
        if not self._is_refused:
            self._is_refused = True
            log.warning(
                "the broker refuses what Home Assistant is to be told: %s: %s; "
                "let the coordinator's login write to %s/#",
                refusal.topic,
                refusal.reason,
                self._settings.discovery_prefix,
            )
        return True

    def end(self, round: int, *, finished: bool, error: str = "") -> None:
        """Publishes the last state of this life.

        Args:
            round: Round with which a restart would continue.
            finished: Whether the run is finished.
            error: What ended it, if something went wrong.
        """
        if not self._settings.is_on or not self._progress.run:
            return
        if not finished:
            stopped = RunStopped(time=time.time(), round=round, reason="error" if error else "signal", detail=error)
            self._progress.apply(stopped)
            self._progress.trouble = error or self._progress.trouble
        self._publish()

    def _publish(self) -> None:
        state = run_state(self._progress)
        if self._published is not None and msgspec.structs.replace(self._published, updated=state.updated) == state:
            return
        self._published, self._due = state, self._clock() + LIMITS.state_seconds
        self._transport.publish(self._topics.state, msgspec.json.encode(state), retain=True)

    def _describe(self) -> None:
        progress, prefix = self._progress, self._settings.discovery_prefix
        for topic, payload in discovery_messages(self._topics, progress.metric, progress.model, prefix):
            self._descriptions.add(topic)
            self._transport.publish(topic, payload, retain=True)
