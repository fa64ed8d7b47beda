"""Looking for the coordinator when none is heard: one line for people, and a look for it under other names. Pure.

A listener with a mount point, or a bridge with a prefix, gives a topic another name on each of its sides: coordinator
and device are both connected then, and never meet. What the coordinator keeps at the broker is found all the same,
under a name that tells what happened.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.events import Effects, Identity, Log, Subscribe, Unsubscribe

_LIMITS = LIMITS.presence


class CoordinatorSearch:
    """One search in the life of an agent, and only while it knows of no coordinator.

    Args:
        identity: of the agent.
    """

    def __init__(self, identity: Identity) -> None:
        self._topics = identity.topics
        self._due: float | None = None
        self._over = False
        self._told: set[str] = set()
        self.filters = self._topics.elsewhere(self._topics.coordinator)

    def connected(self, now: float) -> None:
        """The broker is there."""
        if not self._over:
            self._due = now + _LIMITS.search_seconds

    def found(self) -> Effects:
        """A coordinator is there."""
        return self._end()

    def disconnected(self) -> Effects:
        """The broker is gone, perhaps because of what was asked of it."""
        return self._end() if self._over else []

    def next_wakeup(self) -> float | None:
        """When to begin, unless the coordinator is heard before; None if not at all."""
        return self._due

    def poll(self, now: float) -> Effects:
        """Begins, if it is time."""
        if self._due is None or now < self._due:
            return []
        self._due, self._over = None, True
        text = (
            f'no coordinator of fleet "{self._topics.fleet}" has been heard of at this broker: is it started, and is '
            "the name right? Waiting for it; fedlp doctor broker tells whether messages pass"
        )
        return [Log(text, warning=True), *(Subscribe(topic) for topic in self.filters)]

    def strange(self, topic: str) -> Effects:
        """Something came under a name that this device did not ask for."""
        name = self._topics.renamed(topic)
        if topic in self._told or len(self._told) > 2:
            return []
        self._told.add(topic)
        what = f"{name} is called {topic} here" if name else f"what was subscribed to arrives as {topic}"
        text = (
            f"this broker renames topics: {what}; a mount_point of a listener or a prefix of a bridge does so: let "
            "coordinator and devices use a listener without one"
        )
        return [Log(text, warning=True)]

    def _end(self) -> Effects:
        asked, self._due, self._over = self._over, None, True
        return [Unsubscribe(topic) for topic in self.filters] if asked and not self._told else []
