"""Decides what a coordinator does about what its broker refuses, whether it leads a run or a roll-out."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.base import Refused
from fedlp_edge.transport.retry_log import RefusalLog
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")


class BrokerRefusals:
    """Logs what the broker refuses, each topic ever more rarely.

    Args:
        topics: Topics of the fleet.
        clock: Monotonic seconds.
    """

    def __init__(self, topics: Topics, clock: Callable[[], float]) -> None:
        self._topics = topics
        self._clock = clock
        self._log = RefusalLog("the coordinator's")

    def take(self, refused: Refused, handled: Callable[[int], bool]) -> None:
        """Takes a refusal.

        Args:
            refused: What the broker refuses.
            handled: Notes that the broker is done with the message of a token, whose place in the window is free again;
                returns whether it was a chunk.

        Raises:
            BrokerError: It is a topic of the devices, which would not be heard; the coordinator's own need not be.
        """
        if refused.token is None:
            if refused.topic != self._topics.coordinator:
                raise BrokerError(self._log.words(refused))
        elif handled(refused.token) and refused.too_long:
            return  # who misses the chunk asks for it, and gets it in pieces that fit
        if line := self._log.line(refused, self._clock()):
            log.warning("%s", line)
