"""Downloads blobs (units of the model, an ONNX file) from chunks that arrive in any order, or not at all.

The broadcast of a unit begins before the task that names its version arrives (``prefetch``). What does not come is
requested once nothing has come for a while and nothing can be in transit any more (``in_transit``): a request for what
is would double it. An answer comes in slices that fit the broker's queue; the end of one is the signal to request the
next. Only the store touches the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from device_agent.limits import LIMITS
from device_agent.protocol.link.link_estimate import LinkState, carried_rate, observed_rate
from device_agent.protocol.prefetch import PrefetchedBlob, PrefetchStore
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.chunks import PREFIX_BYTES, Assembly, Chunk
from fedlp_edge.wire.messages import Ranges, UnitRequest, UnitVersion
from fedlp_edge.wire.ranges import take

_LIMITS = LIMITS.downloads


Check = Callable[[UnitVersion, memoryview], object]
"""Admits a blob whose digest is right, or raises PeerError."""


class BlobStore(PrefetchStore, Protocol):
    """The interface of a store that collects and keeps blobs by digest."""

    def has(self, digest: str) -> bool:
        """Returns whether a blob is there, complete."""

    def written(self, version: UnitVersion) -> memoryview:
        """Returns the bytes that were written since ``begin``."""

    def keep(self, version: UnitVersion) -> None:
        """Makes what was written since ``begin`` a blob of the store."""


class Downloads:
    """The download of one set of blobs at a time.

    Args:
        store: Keeps them.
        check: Function that is called once with each blob that was downloaded.
        nothing_in_transit: Whether nothing that was sent before a time, the first, is still in transit now, at the
            second; if that is not known it is found out, and time may pass until the answer is another one.
        link: State of the link; None for one of which nothing is known.
    """

    def __init__(
        self,
        store: BlobStore,
        check: Check,
        nothing_in_transit: Callable[[float, float], bool] = lambda _since, _now: True,
        link: LinkState | None = None,
    ) -> None:
        self._link = LinkState() if link is None else link
        self._store = store
        self._check = check
        self._nothing_in_transit = nothing_in_transit
        self._waiting_since: float | None = None
        self._wanted: dict[str, UnitVersion] = {}
        self._assemblies: dict[str, Assembly] = {}
        self._by_prefix: dict[bytes, str] = {}
        self._prefetched: dict[str, PrefetchedBlob] = {}
        self._prefetch_bytes: dict[str, int] = {}
        self._asked: set[bytes] = set()
        self._patience = _LIMITS.patience_seconds
        self._patience_after_progress = _LIMITS.patience_seconds
        self._progress_at = self._silent_since = 0.0
        self._last_chunk_at = 0.0
        self._gap = 0.0
        self._received = 0
        self._completed_bytes = 0
        self._started_at = 0.0
        self._received_since_start = 0
        self._first_at: float | None = None
        self._received_since_first = 0

    @property
    def complete(self) -> bool:
        """Whether every wanted blob is in the store."""
        return not self._assemblies

    @property
    def missing(self) -> int:
        """Number of chunks of wanted blobs that have not come."""
        return sum(stop - start for assembly in self._assemblies.values() for start, stop in assembly.missing)

    @property
    def missing_bytes(self) -> int:
        """Bytes of wanted blobs that are not complete, the chunks that have come included."""
        return sum(self._wanted[digest].size for digest in self._assemblies)

    def next_wakeup(self) -> float | None:
        """Returns when ``overdue`` has requests unless a chunk comes first, in seconds; None if nothing is missing."""
        if self.complete or self._patience == math.inf or self._waiting_since == self._progress_at:
            return None
        return self._silent_since + self._patience

    def limit_prefetch(self, most_bytes: Mapping[str, int]) -> None:
        """Sets for which units chunks may be held before a task names them, and how many bytes each can have."""
        self._prefetch_bytes = dict(most_bytes)
        for unit in self._prefetched.keys() - self._prefetch_bytes.keys():
            self._prefetched.pop(unit).discard()

    def start(self, versions: Iterable[UnitVersion], now: float, patience: float = _LIMITS.patience_seconds) -> None:
        """Wants these blobs from now on, instead of those that were wanted before; chunks that have come already count.

        Args:
            versions: Versions that are wanted.
            now: Time, in seconds of the clock of the service.
            patience: Seconds of silence before the first request; 0 for what nobody broadcasts.

        Raises:
            PeerError: One that is complete by what had come early is not acceptable.
        """
        before = self._wanted
        self._wanted = {version.digest: version for version in versions}
        self._by_prefix = {bytes.fromhex(digest)[:PREFIX_BYTES]: digest for digest in self._wanted}
        for digest in self._assemblies.keys() - self._wanted.keys():
            self._assemblies.pop(digest).abandon()
            self._store.discard(before[digest])
        self._patience = max(patience, self._usual_silence) if patience else 0.0
        self._progress_at = self._silent_since = now
        self._last_chunk_at = self._started_at = now
        self._received_since_start = 0
        self._patience_after_progress = max(patience, _LIMITS.patience_seconds)
        self._asked.clear()
        for version in self._wanted.values():
            prefetched = self._prefetched.pop(version.unit, None)
            if version.digest in self._assemblies or self._store.has(version.digest):
                if prefetched is not None:
                    prefetched.discard()
                continue
            assembly, last = prefetched.take_over(version) if prefetched is not None else (None, None)
            if assembly is None:
                sink = self._store.begin(version)
                assembly = Assembly(version.digest, version.size, version.chunk_bytes, sink)
                assembly.resume()
            self._assemblies[version.digest] = assembly
            if last is not None:
                self._add(last, now)
            elif assembly.complete:
                self._complete(version.digest, assembly)

    def abandon(self) -> None:
        """Wants nothing any more, and removes what has come of blobs that are not complete."""
        for digest, assembly in self._assemblies.items():
            assembly.abandon()
            self._store.discard(self._wanted[digest])
        for of_wanted in (self._assemblies, self._wanted, self._by_prefix, self._asked):
            of_wanted.clear()

    def pause(self) -> None:
        """Requests nothing until ``resume`` or ``start``; chunks that come by themselves are still taken."""
        self._patience = math.inf

    def resume(self, now: float) -> None:
        """Requests again what is missing."""
        self._patience = self._patience_after_progress = _LIMITS.patience_seconds
        self._progress_at = self._silent_since = now

    def ask_soon(self, now: float) -> None:
        """Requests what is missing soon, unless paused, since a coordinator is there again that may answer."""
        if self._patience < math.inf:
            self.resume(now)

    def bytes_arriving(self, now: float) -> None:
        """Notes that bytes of an incomplete message came: a wanted chunk may be that message, or come behind it."""
        # Only the silence begins anew. An echo that is in transit comes back behind the message that is arriving, so it
        # still tells of everything before it; if it counted for nothing now, the next one might fare alike, for ever.
        self._silent_since = now

    def wants(self, chunk: Chunk) -> bool:
        """Returns whether a chunk belongs to a blob that is, or just was, wanted."""
        return chunk.prefix in self._by_prefix

    def awaits(self, chunk: Chunk) -> bool:
        """Returns whether a chunk belongs to a blob that is not complete yet."""
        return self._by_prefix.get(chunk.prefix) in self._assemblies

    def receive(self, unit: str | None, chunk: Chunk, nbytes: int, now: float) -> None:
        """Takes one chunk.

        Args:
            unit: The topic it came on; None if it was sent to this device alone.
            chunk: Parsed chunk.
            nbytes: Bytes of the message on the wire, for the traffic counts.
            now: Time, in seconds of the clock of the service.

        Raises:
            PeerError: The chunk completes a blob that is not acceptable.
        """
        if self._assemblies or self._prefetched:  # else it is not this chunk that took so long
            self._gap = max(now - self._last_chunk_at, self._gap / 2)
        self._last_chunk_at = now
        self._received += nbytes
        if self._first_at is None:
            self._first_at = now  # nobody knows how long the first one took
        else:
            self._received_since_first += nbytes
        if self.wants(chunk):
            self._received_since_start += nbytes
            self._add(chunk, now)
            if unit is None and chunk.report:
                self._answered(chunk.prefix, now)
        elif unit is not None and unit in self._prefetch_bytes:
            self._prefetch(unit, chunk)

    def overdue(self, now: float) -> list[tuple[UnitVersion, Ranges]]:
        """Returns what to request now because nothing has come for a while; each time the wait gets longer."""
        if self.complete or self._patience == math.inf or now < self._silent_since + self._patience:
            return []
        if self._patience and not self._nothing_in_transit(self._progress_at, now):
            self._waiting_since = self._progress_at
            return []
        self._waiting_since = None
        self._patience = min(
            max(2 * self._patience, _LIMITS.patience_seconds), max(self._patience, _LIMITS.longest_patience_seconds)
        )
        self._progress_at = self._silent_since = now
        requests: list[tuple[UnitVersion, Ranges]] = []
        rate = self._link.estimate.rate
        chunks, room = 0, _LIMITS.slice_seconds * rate if rate else math.inf
        for digest, assembly in self._assemblies.items():
            version = self._wanted[digest]
            missing, _ = take(assembly.missing, max(1, int(min(room / version.chunk_bytes, assembly.left))))
            requests.append((version, missing))
            asked = sum(stop - start for start, stop in missing)
            chunks, room = chunks + asked, room - asked * version.chunk_bytes
            if chunks >= _LIMITS.enough_chunks or room <= 0:
                break
        self._asked = {bytes.fromhex(version.digest)[:PREFIX_BYTES] for version, _ in requests}
        return requests

    def requests(self, run: str, device: str, now: float) -> list[UnitRequest]:
        """Returns what ``overdue`` does, as messages in the name of a device."""
        return [
            UnitRequest(run=run, device=device, unit=version.unit, digest=version.digest, missing=missing)
            for version, missing in self.overdue(now)
        ]

    def observed_rate(self, now: float) -> float | None:
        """Returns the bytes per second of wanted blobs that have come since ``start``; None if that says nothing."""
        return observed_rate(self._received_since_start, now - self._started_at)

    def take_carried_rate(self) -> float | None:
        """Returns the bytes per second that have come at the least since the last call; None if that is not known."""
        seconds = 0.0 if self._first_at is None else self._last_chunk_at - self._first_at
        nbytes, self._first_at, self._received_since_first = self._received_since_first, None, 0
        return carried_rate(nbytes, seconds)

    def take_received_bytes(self) -> int:
        """Returns the bytes of chunks that came since the last call, headers included."""
        received, self._received = self._received, 0
        return received

    def take_completed_bytes(self) -> int:
        """Returns the bytes of the blobs that were completed since the last call, each once, without headers."""
        completed, self._completed_bytes = self._completed_bytes, 0
        return completed

    @property
    def _usual_silence(self) -> float:
        """Returns the seconds that this link may need for a chunk, as far as chunks have come."""
        return min(_LIMITS.gaps * self._gap, _LIMITS.longest_patience_seconds)

    def _answered(self, prefix: bytes, now: float) -> None:
        """The slice that answers a request is through; once all are, what is still missing is asked for at once."""
        if prefix not in self._asked:
            return
        self._asked.remove(prefix)
        if not self._asked and self._patience < math.inf:
            self._patience, self._progress_at, self._silent_since = 0.0, now, now

    def _prefetch(self, unit: str, chunk: Chunk) -> None:
        if chunk.pieces > 1:
            return  # it does not tell how long the chunk is, and nobody who sends pieces sends them early
        prefetched = self._prefetched.get(unit)
        if prefetched is None or prefetched.prefix != chunk.prefix:
            if prefetched is not None:
                prefetched.discard()
            prefetched = self._prefetched[unit] = PrefetchedBlob(unit, chunk, self._prefetch_bytes[unit], self._store)
        prefetched.add(chunk)

    def _add(self, chunk: Chunk, now: float) -> None:
        digest = self._by_prefix.get(chunk.prefix)
        assembly = self._assemblies.get(digest) if digest else None
        if digest is None or assembly is None or not assembly.add(chunk):
            return
        self._progress_at = self._silent_since = now
        if self._patience < math.inf:
            self._patience = max(self._patience_after_progress, self._usual_silence)
        if assembly.complete:
            self._complete(digest, assembly)

    def _complete(self, digest: str, assembly: Assembly) -> None:
        if not assembly.finish():
            return
        version = self._wanted[digest]
        del self._assemblies[digest]
        try:
            self._check(version, self._store.written(version))
        except PeerError:
            self._store.discard(version)
            raise
        self._store.keep(version)
        self._completed_bytes += version.size
