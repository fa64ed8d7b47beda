"""Orders the broadcast of a model, and bounds how far it runs ahead of the devices that read it; pure but for sending.

The broker acknowledges a chunk when it has it, not when its readers do, and drops what its queue for a slow one cannot
hold. So a broadcast that is longer than the window goes out in slices of half a window: the last chunk of a
slice asks each reader to report, and the slice after the next waits until all have. A reader that stays silent
is not waited for any longer; it will ask for what it misses. A broadcast that fits into the window, as nearly
all do, asks nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from coordinator.fleet.link_rates import Links
from coordinator.limits import LIMITS
from coordinator.transfer.flow_limits import FlowLimits
from fedlp_edge.wire.chunks import chunk_count
from fedlp_edge.wire.messages import Progress, UnitVersion

SendPart = Callable[[UnitVersion, int, int, bool, Callable[[], None]], None]
"""Sends chunks start to stop of a version, the last one asking for a report; calls back once they are sent."""


@dataclass
class _Unit:
    version: UnitVersion
    readers: frozenset[str]
    count: int
    sent: int = 0

    @property
    def left(self) -> int:
        return self.count - self.sent


@dataclass
class _Slice:
    """The chunks that were sent and whose arrival is to be reported.

    Attributes:
        awaited: Awaited reports by device, blob (as in ``Progress``) and number of the last chunk of the slice that it
            gets.
        nbytes: Number of bytes of the slice.
        unsent: Parts that the broker does not have yet.
        give_up_at: None as long as there are such parts.
    """

    awaited: dict[str, tuple[str, int]] = field(default_factory=dict)
    nbytes: int = 0
    unsent: int = 0
    give_up_at: float | None = None


class Broadcast:
    """The chunks that are still to be broadcast, and the devices that read them.

    Args:
        flow: Chunks sent ahead of the slowest reader's report, and how long that is waited for.
        send: Function that sends a part, see ``SendPart``.
        clock: Monotonic seconds.
        links: Link rates of the readers.
    """

    def __init__(self, flow: FlowLimits, send: SendPart, clock: Callable[[], float], links: Links) -> None:
        window = flow.broadcast
        self._most_seconds = flow.reader_seconds
        self._slice = None if window is None else max(1, window // LIMITS.slices_ahead)
        self._window = window
        self._send = send
        self._clock = clock
        self._links = links
        self._units: deque[_Unit] = deque()
        self._slices: deque[_Slice] = deque()
        self._silent: set[str] = set()

    def start(self, units: Sequence[tuple[UnitVersion, Collection[str]]]) -> None:
        """Broadcasts these versions, in this order, instead of what is left of the last broadcast.

        Args:
            units: Each with the devices that need it; others may listen, but are not waited for.
        """
        self._units = deque(
            _Unit(version, frozenset(readers), chunk_count(version.size, version.chunk_bytes))
            for version, readers in units
        )
        self._slices.clear()
        self._silent.clear()
        self._advance()

    def pending(self, digest: str) -> int:
        """Returns the number of chunks at the end of a version that were not sent yet, and will be."""
        return sum(unit.left for unit in self._units if unit.version.digest == digest)

    def reported(self, message: Progress) -> None:
        """Notes that a device has got the last chunk of a slice, and so every chunk before it."""
        self._silent.discard(message.device)
        mark = (message.blob, message.index)
        found = [number for number, part in enumerate(self._slices) if part.awaited.get(message.device) == mark]
        for part in list(self._slices)[: found[0] + 1 if found else 0]:
            part.awaited.pop(message.device, None)
        self._advance()

    def gone(self, device: str) -> None:
        """Notes that a device is offline."""
        self._silent.add(device)
        for part in self._slices:
            part.awaited.pop(device, None)
        self._advance()

    def tick(self) -> None:
        """Stops waiting for devices that have been silent for too long."""
        now = self._clock()
        for part in self._slices:
            if part.give_up_at is not None and now >= part.give_up_at:
                self._silent.update(part.awaited)
                part.awaited.clear()
        self._advance()

    def _advance(self) -> None:
        while self._units:
            while self._slices and not self._slices[0].awaited and not self._slices[0].unsent:
                self._slices.popleft()
            if len(self._slices) >= LIMITS.slices_ahead:
                return
            self._send_slice()

    def _send_slice(self) -> None:
        total = sum(unit.left for unit in self._units)
        whole = self._slice is None or (total <= (self._window or 0) and not self._slices)
        parts = self._cut(total if whole or self._slice is None else self._slice)
        nbytes = sum((stop - start) * unit.version.chunk_bytes for unit, start, stop in parts)
        current = _Slice(nbytes=nbytes, unsent=len(parts))
        marked = set() if whole else self._mark(parts, current)
        self._slices.append(current)

        def sent() -> None:
            current.unsent -= 1
            if not current.unsent:
                current.give_up_at = self._clock() + self._patience(current)

        for number, (unit, start, stop) in enumerate(parts):
            self._send(unit.version, start, stop, number in marked, sent)

    def _patience(self, part: _Slice) -> float:
        """Returns the seconds that the slowest awaited device may need for a slice, and for the one before it."""
        rates = [rate for device in part.awaited if (rate := self._links.rate(device))]
        needed = LIMITS.link_factor * LIMITS.slices_ahead * part.nbytes / min(rates) if rates else 0.0
        return min(LIMITS.reader_seconds + needed, self._most_seconds)

    def _cut(self, chunks: int) -> list[tuple[_Unit, int, int]]:
        """Returns the next chunks, of as many units as they span."""
        parts = []
        while self._units and chunks > 0:
            unit = self._units[0]
            start, unit.sent = unit.sent, min(unit.count, unit.sent + chunks)
            if unit.sent > start:
                parts.append((unit, start, unit.sent))
            chunks -= unit.sent - start
            if not unit.left:
                self._units.popleft()
        return parts

    def _mark(self, parts: Sequence[tuple[_Unit, int, int]], current: _Slice) -> set[int]:
        """Returns the numbers of the chunks whose arrival is reported: for each device the last one of its slice."""
        marked = set()
        for number, (unit, _, stop) in reversed(list(enumerate(parts))):
            new = unit.readers - current.awaited.keys() - self._silent
            if new:
                marked.add(number)
                current.awaited.update(dict.fromkeys(new, (unit.version.digest[:32], stop - 1)))
        return marked
