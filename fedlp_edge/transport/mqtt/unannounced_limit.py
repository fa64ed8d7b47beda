"""This module detects a broker's packet limit that the broker does not announce, from lost connections. Pure.

Such a broker ends the connection at a packet that is too long, without a reason code, and again when the packet is
sent again. A link on which a packet takes longer than the keep-alive does that too, and shorter packets help there too.
"""

from __future__ import annotations

LOSSES = 2
"""Consecutive losses, each after a packet longer than any acknowledged one, that prove a limit: one may be chance."""

MIN_BYTES = 4096
"""Bytes of a packet that is never taken for the reason of a lost connection."""


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

    def carried(self, size: int) -> None:
        """Records that the broker has acknowledged a packet of ``size`` bytes."""
        self._carried = max(self._carried, size)
        if size >= (self._longest if self.packet is None else self.packet // 2):
            self.losses = 0

    def lost(self, longest: int, *, sure: bool) -> bool:
        """Records that the connection has ended.

        Args:
            longest: Bytes of the longest unacknowledged packet; 0 if there was none.
            sure: Whether the broker gave the length of a packet as its reason.

        Returns:
            Whether packets must be shorter from here on.
        """
        carried, self._carried = self._carried, 0
        if longest <= max(carried, MIN_BYTES):
            self.losses = self.losses if longest == 0 else 0
            return False
        self.losses, self._longest = self.losses + 1, longest
        if self.losses < LOSSES and not sure:
            return False
        self.packet = max(longest // 2, carried, MIN_BYTES)
        return True
