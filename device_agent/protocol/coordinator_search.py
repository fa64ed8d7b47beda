"""Searches for the coordinator when none is heard: logs one line, and looks for it under other topic names.

A listener with a mount point, or a bridge with a prefix, gives a topic another name on each of its sides: coordinator
and device are both connected then, and never meet. The coordinator's retained announcement is found all the same, under
a name that tells what happened.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, Identity, Log, Subscribe, Unsubscribe

_MAX_REPORTED = 3


class CoordinatorSearch:
    """The one search in the life of an agent, before it has known of any coordinator.

    Args:
        identity: Identity of the agent.
        coordinator: Presence of the coordinator.

    Attributes:
        filters: Topic filters that the search subscribes to.
    """

    def __init__(self, identity: Identity, coordinator: CoordinatorPresence) -> None:
        self._topics = identity.topics
        self._coordinator = coordinator
        self._begun = False
        self._subscribed = False
        self._reported: set[str] = set()
        self.filters = self._topics.prefixed_filters(self._topics.coordinator)

    def next_wakeup(self) -> float | None:
        """Returns when to begin unless the coordinator is heard before, in seconds; None if not at all."""
        connected_at = self._coordinator.connected_at
        if self._begun or self._coordinator.known or connected_at is None:
            return None
        return connected_at + LIMITS.presence.search_seconds

    def poll(self, now: float) -> Effects:
        """Begins the search if it is time."""
        due = self.next_wakeup()
        if due is None or now < due:
            return []
        self._begun = self._subscribed = True
        text = (
            f'no coordinator of fleet "{self._topics.fleet}" has been heard of at this broker: is it started, and is '
            "the name right? Waiting for it; fedlp fleet lists who is at a broker, fedlp doctor broker tells whether "
            "messages pass"
        )
        return [Log(text, warning=True), *(Subscribe(topic) for topic in self.filters)]

    def end(self) -> Effects:
        """Ends the search: a coordinator is there, or the connection broke, perhaps because of what was asked of it."""
        subscribed, self._subscribed = self._subscribed, False
        # What has arrived under another name tells people enough; the filters then do no harm.
        return [Unsubscribe(topic) for topic in self.filters] if subscribed and not self._reported else []

    def unexpected_topic(self, topic: str) -> Effects:
        """Reports a message that came under a topic to which this device did not subscribe."""
        if topic in self._reported or len(self._reported) >= _MAX_REPORTED:
            return []
        self._reported.add(topic)
        name = self._topics.without_prefix(topic)
        what = f"{name} is called {topic} here" if name else f"what was subscribed to arrives as {topic}"
        text = (
            f"this broker renames topics: {what}; a mount_point of a listener or a prefix of a bridge does so: let "
            "coordinator and devices use a listener without one"
        )
        return [Log(text, warning=True)]
