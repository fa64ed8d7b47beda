"""The control messages of a fleet: JSON, typed, validated when built and when decoded.

Tensors never travel in these; they go as chunks (see ``chunks``). Every message that concerns an update
names (run, round, device), so that a repeat, a replay or a message of an earlier run is recognised.

============================  ====================================================  =================
topic (under the fleet root)  messages                                              sender
============================  ====================================================  =================
``coordinator``               Announcement, retained, last will; Claim              coordinator
``device/ID``                 Status, retained, last will                           device ID
``down/ID``                   Assignment, Refusal, Task, Grant, Receipt, Farewell   coordinator
``up/ID``                     Ready, UnitRequest, Progress, Offer, Failure,         device ID
                              DeploymentReport
``model/UNIT``                chunks of the current version of a unit               coordinator
``repeat/ID``                 chunks that device ID asked for again                 coordinator
``upload/ID``                 chunks of the update that was granted                 device ID
``echo/ID``                   random bytes that device ID itself hears              device ID
============================  ====================================================  =================
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import (
    Encoding,
    Granularity,
    ModelSettings,
    PersonalHeads,
    Prune,
    Share,
    TrainingSettings,
)
from fedlp_edge.errors import PeerError
from fedlp_edge.system.printable import unprintable_fields

PROTOCOL = 3
"""Since 2, dots in names go as tildes in topics."""

# Names end up in topics and in file names: nothing that means something there. (\Z, since $ lets a newline pass.)
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
UnitId = Annotated[str, msgspec.Meta(pattern=r"^([LH][1-9][0-9]{0,3}c?|onnx-[1-9][0-9]{0,3})\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
MAX_REASON = 2000
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]
# A mode that only newer devices know is no reason to refuse an update.
ComputeWord = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{0,40}\Z")]

# Half-open [start, stop) chunk numbers.
Ranges = tuple[tuple[Natural, Natural], ...]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Base of all control messages; ``type`` on the wire is the class name. Their words are fit to be printed."""

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class UnitVersion(msgspec.Struct, frozen=True):
    """One blob that the coordinator serves: a unit of the model, or an ONNX file (``onnx-DEPTH``).

    Attributes:
        unit: its id and topic level.
        digest: BLAKE3 of the blob.
        size: bytes of the blob.
        chunk_bytes: payload bytes of every chunk but the last.
    """

    unit: UnitId
    digest: Digest
    size: Natural
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)]


class Announcement(Message, frozen=True, kw_only=True):
    """The coordinator is there, or (as last will, or at its end) no longer.

    Attributes:
        session: drawn anew at every start; a change tells devices that it forgot what it did not journal.
    """

    online: bool
    run: Name
    session: Name
    state: Literal["waiting", "running", "finished", "offline"]
    protocol: int = PROTOCOL


class Claim(Message, frozen=True, kw_only=True):
    """Not retained, on the coordinator's own topic: who is the coordinator of this fleet?

    Attributes:
        session: of whoever speaks.
        run: that it does.
        to: the session that is answered; None for the question.
    """

    session: Name
    run: Name
    to: Name | None = None


class Status(Message, frozen=True, kw_only=True):
    """A device is there with these facts, or (as last will, or at its end) no longer.

    Attributes:
        session: drawn anew at every start of the agent; tells two agents with one identity apart.
        settled: whether it has been there for a while; of two agents with one identity the other one stops.
        revision: how often this agent has measured itself and its data; what a device could not do it is asked for
            again once this has changed.
    """

    device: Name
    online: bool
    session: Name
    facts: DeviceFacts | None = None
    settled: bool = False
    revision: Natural = 0
    version: str = ""
    protocol: int = PROTOCOL


class Assignment(Message, frozen=True, kw_only=True):
    """Hold this depth of this model for the run; answered by Ready once the topics are subscribed.

    Attributes:
        blueprint_digest: of the coordinator's copy of the layered model.
        explanation: the planner's one line, for the agent's log.
    """

    run: Name
    device: Name
    model: ModelSettings
    blueprint_digest: Digest
    depth: Annotated[int, msgspec.Meta(ge=1)]
    explanation: str = ""


class AssignmentRefused(Message, frozen=True, kw_only=True):
    """The device cannot take part as it is: its samples do not fit the model, or it cannot bear even depth 1."""

    run: Name
    device: Name
    reason: Reason


class Ready(Message, frozen=True, kw_only=True):
    """The device has built its submodel and is subscribed to its units."""

    run: Name
    device: Name
    session: Name
    depth: Annotated[int, msgspec.Meta(ge=1)]


class Task(Message, frozen=True, kw_only=True):
    """Train one round. Sent again as often as needed: the same (run, round, device) is the same work.

    Attributes:
        samples: that the device had reported; its update counts for no more. 0 for no bound.
        seed: of the run; draws derive from (seed, round, device, layer).
        lpr: layer-preserving rate of every unit that ``lpr_of`` does not name.
        lpr_of: rate by unit id.
        exchange_every: period of the units that are not exchanged in every round (see ``core.periods``).
        manifest: the version of every unit that training starts from.
        deadline_seconds: time left from the sending on; relative, since clocks differ.
        patience_seconds: of silence, in which the broadcast may still be on its way through the broker: what is
            missing is not asked for before.
        chunk_bytes: most payload bytes of an upload's chunks.
        encoding: of the numbers in the update.
    """

    run: Name
    round: Natural
    device: Name
    depth: Annotated[int, msgspec.Meta(ge=1)]
    samples: Natural = 0
    seed: Natural
    lpr: Share
    lpr_of: dict[UnitId, Share] = {}
    exchange_every: dict[UnitId, Annotated[int, msgspec.Meta(ge=1)]] = {}
    granularity: Granularity
    prune: Prune
    personal_heads: PersonalHeads = "persist"
    training: TrainingSettings
    manifest: tuple[UnitVersion, ...]
    patience_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    deadline_seconds: float
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)]
    encoding: Encoding = "none"


class UnitRequest(Message, frozen=True, kw_only=True):
    """These chunks of this version did not arrive; send them to me alone."""

    run: Name
    device: Name
    unit: UnitId
    digest: Digest
    missing: Ranges


class Progress(Message, frozen=True, kw_only=True):
    """A chunk of the broadcast that asked for a report has come, and so has what the broker delivered before it.

    Attributes:
        blob: first half of the version's digest, which is all that a chunk tells.
        index: of the chunk.
    """

    run: Name
    device: Name
    unit: UnitId
    blob: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    index: Natural


class UnitPayload(msgspec.Struct, frozen=True):
    """Where one unit's delta lies in an update's blob (a safetensors file of its own)."""

    unit: UnitId
    offset: Natural
    size: Natural


class Offer(Message, frozen=True, kw_only=True):
    """A finished update waits on the device's disk. Repeated until a final Receipt.

    Attributes:
        digest: BLAKE3 of the blob.
        size: bytes of the blob; 0 if everything was pruned.
        units: its parts, without gaps, in the order of the blueprint.
        samples: training samples that it rests on.
        loss: mean training loss of the last epoch.
        seconds: of training.
        bytes_down: model bytes received for this round, chunk headers included.
        peak_memory: bytes that training took on top of the idle worker.
        compute: mode that it was computed in, for people; see ``TrainingSettings``.
        chunk_bytes: payload bytes of its chunks, as its task said; 0 for what the last one says. A coordinator that
            was started again may say something else by now.
        heard: number of the last Grant for it that the device has got, 0 for none yet. A grant after that one is still
            on its way, and so nothing of it can be missed. None from an agent that does not count them.
    """

    run: Name
    round: Natural
    device: Name
    session: Name
    digest: Digest
    size: Natural
    units: tuple[UnitPayload, ...]
    samples: Natural
    loss: float
    seconds: float
    bytes_down: Natural
    peak_memory: Natural = 0
    compute: ComputeWord = ""
    chunk_bytes: Natural = 0
    heard: Natural | None = None


class Grant(Message, frozen=True, kw_only=True):
    """Send these chunks now, keeping at most ``window`` of them unacknowledged by the broker.

    Attributes:
        number: of this grant among all for the update, from 1; the next Offer repeats it.
    """

    run: Name
    round: Natural
    device: Name
    digest: Digest
    missing: Ranges
    window: Annotated[int, msgspec.Meta(ge=1)]
    number: Natural = 0


class Receipt(Message, frozen=True, kw_only=True):
    """The final word on an update: forget it.

    Attributes:
        state: ``accepted``: journaled by the coordinator; ``rejected``: refused by admission, with the
            reason; ``stale``: of a round or run that is over.
    """

    run: Name
    round: Natural
    device: Name
    digest: Digest
    state: Literal["accepted", "rejected", "stale"]
    reason: Reason = ""


class Failure(Message, frozen=True, kw_only=True):
    """The device could not do a task or an assignment, and says why.

    Attributes:
        bytes_down: model bytes received for the task, chunk headers included.
    """

    run: Name
    device: Name
    session: Name
    round: Natural | None = None
    kind: Literal["memory", "model", "data", "worker"]
    reason: Reason
    bytes_down: Natural = 0


class RunEnded(Message, frozen=True, kw_only=True):
    """The run is over; ``models`` and ``layers`` can be asked for with UnitRequest.

    Attributes:
        models: the ONNX file of the device's depth, or else of the nearest that has one; empty if nothing was exported.
        layers: final values of all that a device exchanges whose head is its own: with that head it makes its ONNX
            file itself.
        refused: why the device's depth has no ONNX file although one was wanted; empty otherwise.
    """

    run: Name
    device: Name
    rounds: Natural
    models: tuple[UnitVersion, ...] = ()
    layers: tuple[UnitVersion, ...] = ()
    refused: Reason = ""


class DeploymentReport(Message, frozen=True, kw_only=True):
    """The device says how far it is with what the Farewell named.

    Attributes:
        state: ``receiving``: more of it has come, and more is missing; ``received``: all of it is there, and the device
            makes its ONNX file itself; ``installed``: the model is in its place and computes; ``failed``: it is not.
        reason: why it failed.
    """

    run: Name
    device: Name
    state: Literal["receiving", "received", "installed", "failed"]
    reason: Reason = ""


FromDevice = Ready | UnitRequest | Progress | Offer | Failure | DeploymentReport
FromCoordinator = Assignment | AssignmentRefused | Task | Grant | Receipt | RunEnded

_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """The message as JSON bytes."""
    return _encoder.encode(message)


def decoder(kind: object, max_bytes: int) -> _Decoder:
    """A decoder for one topic's messages that refuses anything longer than ``max_bytes`` unread."""
    return _Decoder(kind, max_bytes)


class _Decoder:
    def __init__(self, kind: object, max_bytes: int) -> None:
        self._decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(kind)
        self._max_bytes = max_bytes

    def __call__(self, payload: bytes) -> object:
        """Decodes one payload.

        Raises:
            PeerError: it is too long, not JSON, or not one of the messages expected.
        """
        if len(payload) > self._max_bytes:
            raise PeerError(f"control message of {len(payload)} bytes is over the limit of {self._max_bytes}")
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerError(f"malformed control message: {error}") from None
