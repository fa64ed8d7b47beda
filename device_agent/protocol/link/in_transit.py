"""Checks whether what was sent to this device can still be in transit: a request for it would then only double it.

Silence proves nothing. On a slow link a chunk takes its time, what is ahead of it takes longer, and a link that pauses
loses nothing. But a broker sends a device its messages in order, so an echo comes back behind everything that the
broker had for the device when the echo reached it: what has not come by then is lost.

Where the broker carries no echoes, or drops them because its queue for the device is full, silence has to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from device_agent.limits import LIMITS
from device_agent.protocol.events import Effects, Identity, SendProbe, Subscribe

_LIMITS = LIMITS.in_transit


class InTransitCheck:
    """The echoes that are sent behind what is in transit, and come back behind it.

    Args:
        identity: Identity of the agent.
        draw: Function that returns a number of random bytes.
        works: Whether the broker carries echoes; None if that is not known.
    """

    def __init__(self, identity: Identity, draw: Callable[[int], bytes], *, works: bool | None = None) -> None:
        self._topic = identity.topics.of("echo", identity.device)
        self._draw = draw
        self._subscribed = self._asked = False
        self._works = works
        self._wanted_since: float | None = None
        self._sent: dict[bytes, float] = {}
        self._tries = 0
        self._began = self._due = -math.inf
        self._nothing_before = -math.inf

    def nothing_before(self, since: float, now: float) -> bool:
        """Returns whether nothing that was sent to this device before ``since`` is still in transit.

        If that is not known, ``poll`` finds it out, and the answer may be another one after the next event.
        """
        if self._works is False or self._nothing_before >= since:
            return True
        if self._wanted_since is None or self._wanted_since < since:
            self._wanted_since, self._tries, self._due = since, 0, now
        return False

    def next_wakeup(self) -> float | None:
        """Returns when the next echo is due, or silence has to suffice."""
        return self._due if self._wanted_since is not None and self._subscribed else None

    def poll(self, now: float) -> Effects:
        """Sends an echo, if one is wanted and no earlier one that would do can come back any more."""
        if self._wanted_since is None:
            return []
        if not self._subscribed:
            again, self._asked = self._asked, True
            return [] if again else [Subscribe(self._topic)]
        if now < self._due:
            return []
        if self._tries >= _LIMITS.echoes:
            self._works = self._works or False
            self._nothing_before, self._wanted_since = max(self._nothing_before, self._wanted_since), None
            return []
        self._began = self._began if self._tries else now
        self._due = now + _LIMITS.patience_seconds * 2**self._tries
        self._tries += 1
        payload = self._draw(_LIMITS.echo_bytes)
        self._sent[payload] = now
        while len(self._sent) > _LIMITS.remembered:
            del self._sent[next(iter(self._sent))]
        return [SendProbe(self._topic, payload)]

    def subscribed(self, topic: str) -> None:
        """Notes that the broker confirmed a subscription."""
        self._subscribed = self._subscribed or topic == self._topic

    def received_something(self, now: float) -> None:
        """Notes that a message came, so that an echo in transit may just be waiting behind others.

        Not for ever: a broker may drop echoes without a word, and other messages come as long as the fleet works.
        """
        if self._tries and now < self._began + _LIMITS.longest_seconds:
            self._tries, self._due = 1, now + _LIMITS.patience_seconds

    def received(self, payload: bytes) -> None:
        """Takes a message on the topic of echoes."""
        sent = self._sent.pop(payload, None)
        if sent is None:
            return
        self._works, self._nothing_before = True, max(self._nothing_before, sent)
        if self._wanted_since is not None and sent >= self._wanted_since:
            self._wanted_since = None

    def set_works(self, *, works: bool) -> None:
        """Sets whether the broker carries echoes, as is known from elsewhere."""
        self._works = works
        if not works:
            self._wanted_since = None

    def interrupted(self) -> None:
        """Notes that the connection is lost, and with it what was in transit."""
        self._sent.clear()
        self._tries, self._due = 0, -math.inf
