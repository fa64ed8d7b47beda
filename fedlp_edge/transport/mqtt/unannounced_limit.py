"""This module detects a broker's packet limit that the broker does not announce, from lost connections. Pure.

Such a broker ends the connection at a packet that is too long, without a reason code, and again when the packet is
sent again. A link on which a packet takes longer than the keep-alive does that too, and shorter packets help there too.
Access rules that forbid a topic look alike at brokers that end the connection for it, but there nothing helps.
"""

from __future__ import annotations

from typing import Literal

LOSSES = 2
"""Consecutive losses, each after a packet longer than any acknowledged one, that prove a limit: one may be chance."""

MIN_BYTES = 4096
"""Bytes of a packet that is never taken for the reason of a lost connection."""

Finding = Literal["nothing", "shorter", "barred"]
"""What a lost connection shows: nothing, that packets must be shorter from here on, or that length is not the reason:
the topic is barred."""


class UnannouncedLimit:
    """The unannounced packet limit of one broker, as far as it is known.

    Attributes:
        packet: Longest packet to send, in bytes; None while no limit is known.
        losses: Consecutive lost connections, each after a packet longer than any acknowledged since; once there were
            enough, each further one lowers ``packet``.
    """

    def __init__(self) -> None:
        self.packet: int | None = None
        self.losses = 0
        self._carried = 0
        self._longest = 0
        self._in_doubt = False
        self._short_losses: dict[str, int] = {}
        self._barred: set[str] = set()

    def carried(self, size: int) -> bool:
        """Records that the broker has acknowledged a packet of ``size`` bytes.

        Returns:
            Whether this shows that a limit which was found is right: shorter packets pass.
        """
        self._carried = max(self._carried, size)
        if size < (self._longest if self.packet is None else self.packet // 2):
            return False
        self.losses = 0
        self._short_losses.clear()
        confirmed, self._in_doubt = self._in_doubt, False
        return confirmed

    def lost(self, longest: int, topic: str = "", *, sure: bool) -> Finding:
        """Records that the connection has ended.

        Args:
            longest: Bytes of the longest unacknowledged packet; 0 if there was none.
            topic: Topic of that packet.
            sure: Whether the broker gave the length of a packet as its reason.
        """
        carried, self._carried = self._carried, 0
        if topic in self._barred and not sure:
            return "nothing"
        if longest <= max(carried, MIN_BYTES):
            self.losses = self.losses if longest == 0 else 0
            return self._lost_behind_a_short_one(topic) if longest > carried and self._in_doubt else "nothing"
        self.losses, self._longest = self.losses + 1, longest
        if self.losses < LOSSES and not sure:
            return "nothing"
        self.packet = max(longest // 2, carried, MIN_BYTES)
        self._in_doubt = True
        return "shorter"

    def _lost_behind_a_short_one(self, topic: str) -> Finding:
        """Gives a limit up that was never confirmed, once the shortest packets end the connection as well."""
        self._short_losses[topic] = self._short_losses.get(topic, 0) + 1
        if self._short_losses[topic] < LOSSES:
            return "nothing"
        self._barred.add(topic)
        self.packet, self._in_doubt = None, False
        return "barred"
