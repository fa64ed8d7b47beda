"""Counts the bytes that devices send to themselves, which links carry though they never reach the coordinator."""

from __future__ import annotations

from collections.abc import Callable

from fedlp_edge.reporting.summary import Purpose
from fedlp_edge.wire.messages import Status


class EchoTraffic:
    """The counter of the bytes that each device has sent to itself.

    Args:
        count: Function that is called with the purpose and the number of new bytes.
    """

    def __init__(self, count: Callable[[Purpose, int], None]) -> None:
        self._count = count
        self._counted: dict[str, tuple[str, int]] = {}

    def reported(self, status: Status, *, known: bool) -> None:
        """Takes from a device's status the bytes that it has sent to itself since its agent was started.

        Args:
            status: Status of a member of the fleet.
            known: An earlier life of the coordinator has counted it.
        """
        session, before = self._counted.get(status.device, ("", 0))
        if session != status.session:
            before = status.echo_bytes if known else 0
        self._counted[status.device] = status.session, max(before, status.echo_bytes)
        if status.echo_bytes > before:
            self._count("echo", status.echo_bytes - before)
