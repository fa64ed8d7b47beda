"""Schedules the uploads of updates: which device may send how many chunks now, and when a blob is complete.

A broker acknowledges a chunk when it has it, not when we do, and drops what its queue for us cannot hold. So
the coordinator hands out *credit*: devices send only the chunks they were granted, and no more than
``credit`` of them are under way at any time, however many devices finish at the same moment. What a slow link brings
takes no credit: its chunks come one by one, and the queue never holds more than one of them.

Messages from one sender come in order. So an offer that was sent after a grant was heard comes behind the chunks of
that grant, and what has not come by then is lost. An offer that was sent before says nothing of them: on a slow link
between coordinator and broker it may come long after the grant.

Whoever is nearest to its end gets most of it. Updates are then whole one after the other, and each is checked and
added while others arrive; with equal shares all would be whole at the same moment, and all of that work come last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.fleet.link_rates import Links, UnknownLinks
from coordinator.limits import LIMITS
from fedlp_edge.wire.chunks import Assembly, Chunk, FileSink, chunk_count
from fedlp_edge.wire.messages import Grant, Offer
from fedlp_edge.wire.ranges import Ranges, take


@dataclass
class _Upload:
    """One offered update; it takes a file only from its first grant on, so a thousand that wait take none."""

    offer: Offer
    path: Path
    chunk_bytes: int
    pending: Ranges
    is_slow: bool = False
    assembly: Assembly | None = None
    under_way: int = 0
    share: int = 0
    last_sign: float = 0.0
    grants: int = 0
    bytes_seen: int = 0

    @property
    def left(self) -> int:
        """Chunks that have not come, once it has begun."""
        return self.assembly.left if self.assembly else 0


@dataclass(frozen=True)
class CompletedUpload:
    """An upload whose bytes are complete and have the digest that was offered."""

    offer: Offer
    path: Path
    bytes_seen: int


class UploadScheduler:
    """The uploads of the open round.

    Args:
        chunk_bytes: Most payload bytes of a chunk, as told in the tasks, for offers that do not name their own.
        grant: Sends a Grant; returns the token of which ``delivered`` tells.
        links: Link rates of the devices; unknown by default.
        credit: Granted chunks under way from all devices together; less than the broker holds for one subscriber.
        patience_seconds: Credit of a device that was silent this long is taken back.
    """

    def __init__(
        self,
        chunk_bytes: int,
        grant: Callable[[Grant], int],
        credit: int = LIMITS.credit_chunks,
        patience_seconds: float = LIMITS.silent_upload_seconds,
        links: Links | None = None,
    ) -> None:
        self._links = links or UnknownLinks()
        self._chunk_bytes = chunk_bytes
        self._grant = grant
        self._patience = patience_seconds
        self._uploads: dict[str, _Upload] = {}
        # Two lines, used as ordered sets, of those that need a grant: with a file open, and without.
        self._begun: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._open: dict[str, _Upload] = {}
        self._most_credit = self._credit = credit
        self._least = max(1, min(LIMITS.least_grant_chunks, LIMITS.least_grant_bytes // chunk_bytes))
        self._look_at = 0.0
        # Grants that the broker has not acknowledged: by token, the device, and when they were sent.
        self._on_the_way: dict[int, tuple[str, float]] = {}
        self._lag = 0.0

    def offer(self, offer: Offer, path: Path, now: float) -> CompletedUpload | None:
        """Takes a valid offer, which may be a repeat; its missing chunks are granted, at once if there is credit.

        Returns:
            The upload if nothing of it is missing, which is so from the start if everything was pruned.
        """
        known = self._uploads.get(offer.device)
        chunk_bytes = self._chunk_bytes_of(offer)
        if known is None or (known.offer.digest, known.chunk_bytes) != (offer.digest, chunk_bytes):
            self.forget(offer.device)
            count = chunk_count(offer.size, chunk_bytes)
            rate = self._links.rate(offer.device)
            is_slow = rate is not None and chunk_bytes > LIMITS.slow_chunk_seconds * rate
            pending = ((0, count),) if count else ()
            known = self._uploads[offer.device] = _Upload(offer, path, chunk_bytes, pending, is_slow)
        elif self._is_early(known, offer, now):
            return None
        # Whatever was granted and has not come is lost: a device offers again only when it waits.
        self._take_back(known)
        known.offer, known.last_sign = offer, now
        if known.assembly is not None or not known.pending:
            assembly = self._begin(known)
            known.pending = assembly.missing
            if whole := self._finish(known, assembly):
                return whole
        self._enqueue(known)
        self._dispense(now)
        return None

    def chunk(self, device: str, chunk: Chunk, nbytes: int, now: float) -> CompletedUpload | None:
        """Takes one chunk of a device; returns the upload once it is complete."""
        upload = self._uploads.get(device)
        assembly = upload.assembly if upload else None
        left = assembly.left if assembly else 0
        if upload is None or assembly is None or not assembly.add(chunk):
            return None
        upload.last_sign = now
        upload.bytes_seen += nbytes
        if assembly.left == left:
            return None  # a piece of a chunk
        if upload.under_way:
            upload.under_way -= 1
            self._credit += not upload.is_slow
        if whole := self._finish(upload, assembly):
            self._dispense(now)
            return whole
        if upload.under_way <= upload.share // 2:
            if not upload.pending and not upload.under_way:
                upload.pending = assembly.missing  # lost chunks, or more gaps than one listing holds
            self._enqueue(upload)
            self._dispense(now)
        return None

    def delivered(self, token: int, now: float) -> None:
        """Notes that the broker has taken a message, which may be a grant.

        Its acknowledgement comes behind all that the broker had for the coordinator then, so it tells how long that is.
        """
        device, sent = self._on_the_way.pop(token, ("", 0.0))
        if device:
            self._lag = now - sent
        if (upload := self._uploads.get(device)) is not None:
            upload.last_sign = now

    def forget(self, device: str) -> None:
        """Drops a device's upload, its bytes and its credit."""
        upload = self._uploads.pop(device, None)
        if upload is None:
            return
        self._take_back(upload)
        self._begun.pop(device, None)
        self._waiting.pop(device, None)
        if upload.assembly is not None:
            del self._open[device]
            upload.assembly.abandon()
            upload.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Drops all uploads, since the round is over."""
        for device in list(self._uploads):
            self.forget(device)
        self._credit = self._most_credit

    def tick(self, now: float) -> None:
        """Takes back the credit of devices that went silent, so that others can go on.

        May be called after every message: it looks at all uploads only now and then.
        """
        if now < self._look_at:
            return
        self._look_at = now + self._patience / 10
        silence = self._patience + LIMITS.lag_factor * self._lag
        for upload in self._uploads.values() if not self._on_the_way else ():
            if upload.under_way and not upload.is_slow and now - upload.last_sign > silence:
                self._take_back(upload)
        self._dispense(now)

    def _is_early(self, upload: _Upload, offer: Offer, now: float) -> bool:
        """Returns whether an offer was sent before the device heard the last grant for it, which may be heard yet."""
        if offer.heard is None or offer.heard >= upload.grants or not upload.under_way:
            return False
        silence = (self._patience if upload.is_slow else LIMITS.grant_seconds) + LIMITS.lag_factor * self._lag
        return bool(self._on_the_way) or now - upload.last_sign <= silence

    def _take_back(self, upload: _Upload) -> None:
        """Takes back the credit of the chunks that were granted and have not come."""
        if not upload.is_slow:
            self._credit += upload.under_way
        upload.under_way = 0

    def _share(self, upload: _Upload) -> int:
        """Returns the chunks of a grant: fewer if many devices want some, so that slow links do not take all credit."""
        if upload.is_slow:
            return LIMITS.least_grant_chunks
        others = len(self._uploads) - 1
        if upload.assembly is None or not others:
            # Nobody knows yet how fast it is.
            return max(self._least, min(LIMITS.grant_chunks, self._most_credit // (others + 1)))
        most = max(self._least, min(LIMITS.leader_chunks, self._most_credit // 2))
        if upload.assembly.left <= min(other.left for other in self._open.values()):
            return most
        return max(self._least, min(LIMITS.grant_chunks, (self._most_credit - most) // others))

    def _begin(self, upload: _Upload) -> Assembly:
        if upload.assembly is None:
            offer = upload.offer
            sink = FileSink.open(upload.path, offer.size)
            upload.assembly = Assembly(offer.digest, offer.size, upload.chunk_bytes, sink)
            self._open[offer.device] = upload
        return upload.assembly

    def _chunk_bytes_of(self, offer: Offer) -> int:
        return offer.chunk_bytes if offer.chunk_bytes >= LIMITS.least_chunk_bytes else self._chunk_bytes

    def _enqueue(self, upload: _Upload) -> None:
        if upload.pending:
            line = self._waiting if upload.assembly is None else self._begun
            line.setdefault(upload.offer.device)

    def _next(self) -> _Upload | None:
        if self._waiting and len(self._open) < LIMITS.open_uploads:
            device = next(iter(self._waiting))
            del self._waiting[device]
        elif self._begun:
            device = min(self._begun, key=lambda device: self._open[device].left)
            del self._begun[device]
        else:
            return None
        return self._uploads[device]

    def _dispense(self, now: float) -> None:
        while self._credit >= min(self._least, self._most_credit) and (upload := self._next()):
            upload.share = self._share(upload)
            granted, upload.pending = take(upload.pending, min(upload.share, self._credit))
            count = sum(stop - start for start, stop in granted)
            self._begin(upload)
            self._credit -= 0 if upload.is_slow else count
            upload.under_way += count
            upload.last_sign = now
            upload.grants += 1
            offer = upload.offer
            token = self._grant(
                Grant(
                    run=offer.run,
                    round=offer.round,
                    device=offer.device,
                    digest=offer.digest,
                    missing=granted,
                    window=LIMITS.grant_chunks,
                    number=upload.grants,
                )
            )
            self._on_the_way[token] = offer.device, now

    def _finish(self, upload: _Upload, assembly: Assembly) -> CompletedUpload | None:
        """Returns the complete upload; if its bytes do not have their digest, all chunks are pending again."""
        if not assembly.complete:
            return None
        if not assembly.finish():
            upload.pending = assembly.missing
            self._enqueue(upload)
            return None
        device = upload.offer.device
        del self._uploads[device]
        self._begun.pop(device, None)
        del self._open[device]
        self._take_back(upload)
        return CompletedUpload(upload.offer, upload.path, upload.bytes_seen)
