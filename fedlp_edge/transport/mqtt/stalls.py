"""This module finds out that long IP packets do not get through to the broker, and makes them shorter.

A VPN, a tunnel or a modem may carry shorter packets than the network before it says, and drop longer ones without a
word (a "black hole" of path MTU discovery, where a firewall also drops the ICMP messages that would tell). Connections
are then made, short messages pass, and the first long one stalls everything behind it, in either direction, until both
sides give the connection up; the next one ends in the same way. Shorter TCP segments pass.
"""

from __future__ import annotations

SEGMENT_BYTES = (1200, 536)
"""Longest TCP segments to try, one after the other: for IP packets of 1,240 bytes (1,260 with IPv6), which nearly every
tunnel carries, and for those that every host must take."""

EARLY_SECONDS = 15.0
"""Seconds after its opening within which a connection falls silent whose first long message does not get through."""

_SILENT_SHARE = 0.8
"""Share of the keep-alive without any byte from the broker that tells a connection that stalled from others."""


class Stalls:
    """How the latest connections have ended.

    Attributes:
        segment_bytes: Longest TCP segments of later connections; None to leave them to the system.
    """

    def __init__(self) -> None:
        self.segment_bytes: int | None = None
        self._in_a_row = 0

    @staticmethod
    def is_stall(silent_seconds: float, keepalive_seconds: float) -> bool:
        """Returns whether a connection that has ended had stalled before.

        Args:
            silent_seconds: Seconds before its end in which no byte came from the broker.
            keepalive_seconds: Seconds after which a ping asks for one.
        """
        return silent_seconds >= _SILENT_SHARE * keepalive_seconds

    def ended(self, heard_seconds: float, silent_seconds: float, keepalive_seconds: float) -> bool:
        """Notes the end of a connection.

        A connection whose network goes away stalls, too. So two in a row count, of which the second one has stalled as
        soon as it stood, though the network is there again by then.

        Args:
            heard_seconds: Seconds from its opening to the last byte from the broker.
            silent_seconds: Seconds from then to its end.
            keepalive_seconds: Seconds after which a ping asks for a byte.

        Returns:
            Whether ``segment_bytes`` is another one from now on.
        """
        if not self.is_stall(silent_seconds, keepalive_seconds):
            self._in_a_row = 0
            return False
        self._in_a_row = self._in_a_row + 1 if heard_seconds < EARLY_SECONDS else 1
        shorter = [size for size in SEGMENT_BYTES if self.segment_bytes is None or size < self.segment_bytes]
        if self._in_a_row < 2 or not shorter:
            return False
        self._in_a_row = 0
        self.segment_bytes = shorter[0]
        return True
