"""Finding out that a broker carries less than it says: brokers with a limit that they announce to nobody. Pure.

Such a broker ends the connection at a message that is too long, without a word, and again when it is sent again. So
does a link that needs longer for a message than the keepalive lasts, and for that the remedy is the same.
"""

from __future__ import annotations

LOSSES = 2
"""In a row behind a message longer than any that was carried: one may be chance."""

LEAST_BYTES = 4096
"""A message of this size is never what a connection was lost for."""


class UnannouncedLimit:
    """What is known of one broker.

    Attributes:
        packet: longest packet to send, bytes; None as long as nothing speaks against any length.
        losses: of the connection, in a row, behind a message longer than any that was carried since; once there were
            enough, each further one makes packets shorter.
    """

    def __init__(self) -> None:
        self.packet: int | None = None
        self.losses = 0
        self._carried = 0
        self._longest = 0

    def carried(self, size: int) -> None:
        """The broker has acknowledged a packet."""
        self._carried = max(self._carried, size)
        if size >= (self._longest if self.packet is None else self.packet // 2):
            self.losses = 0

    def lost(self, longest: int, *, sure: bool) -> bool:
        """The connection has ended.

        Args:
            longest: bytes of the longest packet that was on its way; 0 if there was none.
            sure: the broker said that this was the reason.

        Returns:
            Whether packets must be shorter from here on.
        """
        carried, self._carried = self._carried, 0
        if longest <= max(carried, LEAST_BYTES):
            self.losses = self.losses if longest == 0 else 0
            return False
        self.losses, self._longest = self.losses + 1, longest
        if self.losses < LOSSES and not sure:
            return False
        self.packet = max(longest // 2, carried, LEAST_BYTES)
        return True
