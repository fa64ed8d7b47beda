"""Uploads: who may send how much now, and when a blob is whole.

A broker acknowledges a chunk when it has it, not when we do, and drops what its queue for us cannot hold. So
the coordinator hands out *credit*: devices send only the chunks they were granted, and no more than
``credit`` of them are under way at any time, however many devices finish at the same moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.wire.chunks import Assembly, Chunk, FileSink
from fedlp_edge.wire.messages import Grant, Offer
from fedlp_edge.wire.ranges import Ranges, take

CREDIT = 64
"""Granted chunks under way from all devices together; brokers that limit queues hold at least this many."""

SLICE = 16
"""Chunks granted to one device at a time."""


@dataclass
class _Upload:
    offer: Offer
    assembly: Assembly
    path: Path
    pending: Ranges
    under_way: int = 0
    last_sign: float = 0.0
    bytes_seen: int = 0


@dataclass(frozen=True)
class Whole:
    """An upload whose bytes are complete and have the digest that was offered."""

    offer: Offer
    path: Path
    bytes_seen: int


class Intake:
    """All uploads of the open round.

    Args:
        chunk_bytes: payload bytes of a chunk, as told in the tasks.
        grant: sends a Grant.
        patience_seconds: credit of a device that was silent this long is taken back.
    """

    def __init__(self, chunk_bytes: int, grant: Callable[[Grant], None], patience_seconds: float = 5.0) -> None:
        self._chunk_bytes = chunk_bytes
        self._grant = grant
        self._patience = patience_seconds
        self._uploads: dict[str, _Upload] = {}
        self._queue: deque[str] = deque()
        self._credit = CREDIT

    def offer(self, offer: Offer, path: Path, now: float) -> Whole | None:
        """Takes a valid offer (again): what is missing will be granted, at once if there is credit.

        Returns:
            The upload if nothing of it is missing, which is so from the start if everything was pruned.
        """
        known = self._uploads.get(offer.device)
        if known is None or known.offer.digest != offer.digest:
            self.forget(offer.device)
            assembly = Assembly(offer.digest, offer.size, self._chunk_bytes, FileSink(path, offer.size))
            known = self._uploads[offer.device] = _Upload(offer, assembly, path, ())
        # Whatever was granted and has not come is lost: a device offers again only when it waits.
        self._credit += known.under_way
        known.offer, known.under_way, known.last_sign = offer, 0, now
        known.pending = known.assembly.missing
        if whole := self._finish(known):
            return whole
        self._enqueue(offer.device)
        self._dispense(now)
        return None

    def chunk(self, device: str, chunk: Chunk, nbytes: int, now: float) -> Whole | None:
        """Takes one chunk of a device; returns the upload once it is whole."""
        upload = self._uploads.get(device)
        if upload is None or not upload.assembly.add(chunk):
            return None
        upload.last_sign = now
        upload.bytes_seen += nbytes
        if upload.under_way:
            upload.under_way -= 1
            self._credit += 1
        if whole := self._finish(upload):
            self._dispense(now)
            return whole
        if upload.under_way <= SLICE // 2:
            if not upload.pending and not upload.under_way:
                upload.pending = upload.assembly.missing  # lost chunks, or more gaps than one listing holds
            self._enqueue(device)
            self._dispense(now)
        return None

    def forget(self, device: str) -> None:
        """Drops a device's upload, its bytes and its credit."""
        upload = self._uploads.pop(device, None)
        if upload is None:
            return
        self._credit += upload.under_way
        upload.assembly.abandon()
        upload.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Drops all uploads: the round is over."""
        for device in list(self._uploads):
            self.forget(device)
        self._queue.clear()
        self._credit = CREDIT

    def tick(self, now: float) -> None:
        """Takes back the credit of devices that went silent, so that others can go on."""
        for upload in self._uploads.values():
            if upload.under_way and now - upload.last_sign > self._patience:
                self._credit += upload.under_way
                upload.under_way = 0
        self._dispense(now)

    def _enqueue(self, device: str) -> None:
        if device not in self._queue and self._uploads[device].pending:
            self._queue.append(device)

    def _dispense(self, now: float) -> None:
        while self._queue and self._credit > 0:
            upload = self._uploads.get(self._queue.popleft())
            if upload is None:
                continue
            granted, upload.pending = take(upload.pending, min(SLICE, self._credit))
            count = sum(stop - start for start, stop in granted)
            if not count:
                continue
            self._credit -= count
            upload.under_way += count
            upload.last_sign = now
            offer = upload.offer
            self._grant(
                Grant(
                    run=offer.run,
                    round=offer.round,
                    device=offer.device,
                    digest=offer.digest,
                    missing=granted,
                    window=SLICE,
                )
            )

    def _finish(self, upload: _Upload) -> Whole | None:
        """The whole upload; or, if its bytes do not have their digest, everything is pending again."""
        if not upload.assembly.complete:
            return None
        if not upload.assembly.finish():
            upload.pending = upload.assembly.missing
            self._enqueue(upload.offer.device)
            return None
        del self._uploads[upload.offer.device]
        self._credit += upload.under_way
        return Whole(upload.offer, upload.path, upload.bytes_seen)
