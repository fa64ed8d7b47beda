"""Searches for devices when the coordinator hears none: logs one line, and looks under other names of their topics.

``device_agent.protocol.coordinator_search`` is the other side of it.
"""

from __future__ import annotations

import logging

from coordinator.limits import LIMITS
from fedlp_edge.transport.base import Transport
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")


class DeviceSearch:
    """The one search that a coordinator makes, before it has heard of any device.

    Args:
        topics: Topics of the fleet.
        transport: Transport to subscribe with.
        now: Time, in seconds of the clock of the service.
    """

    def __init__(self, topics: Topics, transport: Transport, now: float) -> None:
        self._topics = topics
        self._transport = transport
        self._due: float | None = now + LIMITS.search_seconds
        self._told_at: float | None = now + LIMITS.alone_seconds
        self._filters = topics.prefixed_filters(topics.of("device", "+"))
        self._looking = False
        self._reported = 0

    def tick(self, now: float, *, alone: bool) -> None:
        """Begins or ends the search when its time has come.

        Args:
            now: Time, in seconds of the clock of the service.
            alone: No device has been heard of.
        """
        if not alone:
            self.end()
        elif self._due is not None and now >= self._due:
            self._due, self._looking = None, True
            for topic in self._filters:
                self._transport.subscribe(topic)
        elif self._told_at is not None and now >= self._told_at:
            self._told_at = None
            log.warning(
                'no device of fleet "%s" has been heard of at this broker: are agents started, and is the name theirs? '
                "Waiting for them; fedlp fleet lists who is at a broker, fedlp doctor broker tells whether messages "
                "pass",
                self._topics.fleet,
            )

    def end(self) -> None:
        """Ends the search: devices are online, or the connection ended, perhaps because of what was subscribed to."""
        if self._looking:
            for topic in self._filters:
                self._transport.unsubscribe(topic)
        self._due, self._told_at, self._looking = None, None, False

    def asked(self, topic: str) -> bool:
        """Returns whether a topic filter is one of the search."""
        return topic in self._filters

    def unexpected_topic(self, topic: str) -> None:
        """Reports a message that came under a topic to which nothing here subscribed."""
        self._reported += 1
        if self._reported > 2:
            return
        name = self._topics.without_prefix(topic)
        what = f"{name} is called {topic} here" if name else f"what was subscribed to arrives as {topic}"
        log.warning(
            "this broker renames topics: %s; a mount_point of a listener or a prefix of a bridge does so: let "
            "coordinator and devices use a listener without one",
            what,
        )
