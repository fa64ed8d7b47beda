"""A finished update as the protocol sees it: everything but its bytes, which the outbox keeps."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fedlp_edge.wire.chunks import chunk_count
from fedlp_edge.wire.messages import ComputeWord, Digest, Name, Natural, Offer, UnitPayload
from fedlp_edge.wire.packed_scores import ScoresByDepth


class UpdateId(NamedTuple):
    """Names one update of this device; the digest tells two trainings of one round apart."""

    run: str
    round: int
    digest: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A finished update, without its bytes.

    Attributes:
        run: its run.
        round: its round.
        device: that trained it.
        fingerprint: of the task that it answers; the same task again needs no new training.
        digest: BLAKE3 of its parts, one behind the other.
        size: bytes of all parts.
        units: its parts, in the order of the blueprint.
        samples: that it rests on.
        loss: mean training loss of the last epoch.
        seconds: of training.
        bytes_down: model bytes received for the round.
        peak_memory: bytes that training took.
        compute: mode that it was computed in.
        chunk_bytes: payload bytes of its chunks.
        scores: what the model that training started from is worth on held-out samples, by depth of the exit.
    """

    run: Name
    round: Natural
    device: Name
    fingerprint: str
    digest: Digest
    size: Natural
    units: tuple[UnitPayload, ...]
    samples: Natural
    loss: float
    seconds: float
    bytes_down: Natural
    peak_memory: Natural
    chunk_bytes: int
    compute: ComputeWord = ""
    scores: ScoresByDepth = {}

    @property
    def id(self) -> UpdateId:
        """Its name within this device."""
        return UpdateId(self.run, self.round, self.digest)

    @property
    def chunk_count(self) -> int:
        """Chunks of the blob; 0 for an empty one."""
        return chunk_count(self.size, self.chunk_bytes)

    def offer(self, session: str, heard: int = 0) -> Offer:
        """The message that tells the coordinator of it.

        Args:
            session: of this life of the agent.
            heard: number of the last grant for it that came.
        """
        return Offer(
            run=self.run,
            round=self.round,
            device=self.device,
            session=session,
            digest=self.digest,
            size=self.size,
            units=self.units,
            samples=self.samples,
            loss=self.loss,
            seconds=self.seconds,
            bytes_down=self.bytes_down,
            peak_memory=self.peak_memory,
            compute=self.compute,
            chunk_bytes=self.chunk_bytes,
            heard=heard,
            scores=self.scores,
        )
