"""Defines a finished update as the protocol sees it: everything but its bytes, which the outbox keeps."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fedlp_edge.wire.chunks import chunk_count
from fedlp_edge.wire.messages import ComputeWord, Digest, Name, Natural, Offer, UnitPayload
from fedlp_edge.wire.packed_scores import ScoresByDepth


class UpdateId(NamedTuple):
    """The name of one update of this device; the digest tells two trainings of one round apart."""

    run: str
    round: int
    digest: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A finished update, without its bytes.

    Attributes:
        run: Name of the run.
        round: Number of the round.
        device: Device that trained it.
        fingerprint: Fingerprint of the task that it answers; the same task again needs no new training.
        digest: BLAKE3 of its parts, one behind the other.
        size: Bytes of all parts.
        units: Units in the order of the blueprint.
        samples: Number of samples that it rests on.
        loss: Mean training loss of the last epoch.
        seconds: Seconds of training.
        bytes_down: Model bytes received for the round.
        payload_down: Bytes of the blobs among them, without headers and repeats.
        peak_memory: Bytes that training took.
        compute: Mode that it was computed in.
        chunk_bytes: Payload bytes of its chunks.
        scores: What the model that training started from is worth on held-out samples, by depth of the exit.
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
    payload_down: Natural = 0
    scores: ScoresByDepth = {}

    @property
    def id(self) -> UpdateId:
        """Name of the update on this device."""
        return UpdateId(self.run, self.round, self.digest)

    @property
    def chunk_count(self) -> int:
        """Returns the number of chunks of the blob; 0 for an empty one."""
        return chunk_count(self.size, self.chunk_bytes)

    def offer(self, session: str, heard: int = 0) -> Offer:
        """Returns the message that offers the update to the coordinator.

        Args:
            session: Session id of this life of the agent.
            heard: Number of the last grant for it that came.
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
            payload_down=self.payload_down,
            peak_memory=self.peak_memory,
            compute=self.compute,
            chunk_bytes=self.chunk_bytes,
            heard=heard,
            scores=self.scores,
        )
