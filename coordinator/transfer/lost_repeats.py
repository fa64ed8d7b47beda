"""Finds out that repeats never arrive because the broker acknowledges messages of their length and drops them; pure.

Mosquitto does so with MQTT 3.1.1 and its ``message_size_limit``, and a limit of the device's own listener cannot be
seen from here at all. A device that asks for the very same again and again gets it in shorter messages; if it then has
all that it needs, length was the matter, and perhaps for others too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.limits import LIMITS
from fedlp_edge.wire.messages import UnitRequest
from fedlp_edge.wire.ranges import Ranges


@dataclass
class _Device:
    """What one device asks for: by unit, the digest, what is missing, and how often that was asked for in a row."""

    asked: dict[str, tuple[str, Ranges, int]] = field(default_factory=dict)
    most: int | None = None


class LostRepeats:
    """The last requests of each device, and the length of messages that may answer them."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}

    def most(self, request: UnitRequest, usual: int) -> int:
        """Returns the payload bytes of a message that answers a request.

        Args:
            request: Request of a device.
            usual: Sizes that would be sent without suspicion.
        """
        device = self._devices.setdefault(request.device, _Device())
        digest, missing, times = device.asked.get(request.unit, ("", (), 0))
        times = times + 1 if (digest, missing) == (request.digest, request.missing) else 1
        if times >= LIMITS.equal_requests:
            device.most = max(LIMITS.least_message_bytes, min(usual, device.most or usual) // LIMITS.shorter_factor)
            # Another unit that got nothing either says the same once more, and not that this is still too long.
            device.asked.clear()
        device.asked[request.unit] = (request.digest, request.missing, times % LIMITS.equal_requests)
        return min(usual, device.most or usual)

    def received_all(self, device: str) -> int | None:
        """A device has all that it needs; returns the length of messages to which it owes that, if it was suspected."""
        known = self._devices.get(device)
        if known is None or known.most is None:
            return None
        known.asked.clear()
        return known.most

    def gone(self, device: str) -> None:
        """Notes that a device is offline."""
        self._devices.pop(device, None)
