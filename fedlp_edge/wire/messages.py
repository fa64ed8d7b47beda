"""This module defines the control messages of a fleet: typed JSON, validated when built and when decoded.

Tensors never travel in control messages, but as chunks (``wire.chunks``). Every message about an update names (run,
round, device), so that a repeat, a replay or a message of an earlier run is recognised.

============================  ====================================================  =================
topic (under the fleet root)  messages                                              sender
============================  ====================================================  =================
``coordinator``               Announcement, retained, last will; Claim              coordinator
``device/ID``                 Status, retained, last will                           device ID
``down/ID``                   Registered, Assignment, AssignmentRefused, Task,      coordinator
                              Grant, Receipt, RunEnded, Install
``up/ID``                     Ready, UnitRequest, Progress, Offer, Failure,         device ID
                              DeploymentReport, InstallReport
``model/UNIT``                chunks of the current version of a unit               coordinator
``repeat/ID``                 chunks that device ID asked for again                 coordinator
``upload/ID``                 chunks of the update that was granted                 device ID
``echo/ID``                   random bytes that device ID itself hears              device ID
============================  ====================================================  =================
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import (
    BroadcastEncoding,
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
from fedlp_edge.wire.packed_scores import ScoresByDepth

PROTOCOL = 7
"""Version of the protocol, raised whenever a field of a message comes, goes or changes, unless both sides get along
without it: agents and coordinators of different versions would wait for each other. A test holds that."""

# Names become parts of topics and file names, so no character may have a meaning there. (\Z, since $ allows a newline.)
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        extra_json_schema={"description": "1 to 64 letters, digits, dots, dashes and underscores, in quotes"},
    ),
]
UnitId = Annotated[str, msgspec.Meta(pattern=r"^([LH][1-9][0-9]{0,3}c?|onnx-[1-9][0-9]{0,3}|file-[0-9a-f]{16})\Z")]
# Names of files of a release: relative, below a directory at the most twice, and none is hidden.
_FILE_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}/){0,2}[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
FileName = Annotated[str, msgspec.Meta(pattern=rf"^{_FILE_NAME}\Z")]
AnyFileName = Annotated[str, msgspec.Meta(pattern=rf"^({_FILE_NAME})?\Z")]  # or empty, for no file
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
MAX_REASON = 2000
MAX_FILES = 64  # that an order to install a model names
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]
# Any word is allowed, since a compute mode that only newer devices have is no reason to refuse an update.
ComputeWord = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{0,40}\Z")]

Holdout = Annotated[float, msgspec.Meta(ge=0, le=0.9)]

# Half-open ranges [start, stop) of chunk numbers.
Ranges = tuple[tuple[Natural, Natural], ...]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The base of all control messages; ``type`` on the wire is the class name, and all texts are safe to print."""

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class UnitVersion(msgspec.Struct, frozen=True):
    """One blob that the coordinator serves: a unit of the model, an ONNX file (``onnx-DEPTH``), or any other file of a
    release (``file-`` and the first 16 digits of its digest).

    Attributes:
        unit: Id of the unit, which is also its topic level.
        digest: BLAKE3 digest of the blob.
        size: Bytes of the blob.
        chunk_bytes: Payload bytes of every chunk but the last.
        encoding: Encoding of the weights in the blob; ``none`` for all other blobs.
    """

    unit: UnitId
    digest: Digest
    size: Natural
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)]
    encoding: BroadcastEncoding = "none"


class Announcement(Message, frozen=True, kw_only=True):
    """This message says that the coordinator is online, or (as last will, or at its end) offline.

    Attributes:
        session: Random name, new at every start; a change tells devices that unjournaled state is lost.
    """

    online: bool
    run: Name
    session: Name
    state: Literal["waiting", "running", "finished", "offline"]
    protocol: int = PROTOCOL


class Claim(Message, frozen=True, kw_only=True):
    """This message, on the coordinator's own topic and not retained, detects a second coordinator of the fleet.

    Attributes:
        session: Session of the sender.
        run: Run of the sender.
        to: Session that the message answers; None for the question.
    """

    session: Name
    run: Name
    to: Name | None = None


class Status(Message, frozen=True, kw_only=True):
    """This message says that a device is online, with its facts, or (as last will, or at its end) offline.

    Attributes:
        session: Random name, new at every start of the agent; distinguishes two agents with one identity.
        ended: Whether the agent was ended; its last will, which says that the connection is lost, does not say so.
        settled: Whether the agent has been online for a while; of two agents with one identity the other one stops.
        revision: Number of measurements of the machine and its data; when it changes, the device is asked again for
            tasks that it could not do before.
        echo_bytes: Random bytes that the agent has sent to itself since its start, to measure its link and to find out
            what is lost; as many came back at the most.
        serving: What the device's installed model has answered; None if it serves none, or keeps that to itself.
    """

    device: Name
    online: bool
    session: Name
    facts: DeviceFacts | None = None
    ended: bool = False
    settled: bool = False
    revision: Natural = 0
    echo_bytes: Natural = 0
    serving: ServingReport | None = None
    version: str = ""
    protocol: int = PROTOCOL


class Assignment(Message, frozen=True, kw_only=True):
    """This message assigns a depth of the model to a device, which answers Ready once it has subscribed to its units.

    Attributes:
        blueprint_digest: Digest of the coordinator's blueprint.
        explanation: The planner's reason in one line, for the agent's log.
    """

    run: Name
    device: Name
    model: ModelSettings
    blueprint_digest: Digest
    depth: Annotated[int, msgspec.Meta(ge=1)]
    explanation: str = ""


class Registered(Message, frozen=True, kw_only=True):
    """This message says that the coordinator has heard of a device, which it can give no model yet.

    Attributes:
        reason: What it waits for.
    """

    run: Name
    device: Name
    reason: Reason


class AssignmentRefused(Message, frozen=True, kw_only=True):
    """This message says that a device cannot take part: its samples do not fit the model, or depth 1 is too large."""

    run: Name
    device: Name
    reason: Reason


class Ready(Message, frozen=True, kw_only=True):
    """This message says that the device has built its submodel and subscribed to its units."""

    run: Name
    device: Name
    session: Name
    depth: Annotated[int, msgspec.Meta(ge=1)]


class Task(Message, frozen=True, kw_only=True):
    """This message asks a device to train one round; a repeat with the same (run, round, device) is the same task.

    Attributes:
        samples: Number of samples that the device reported, which bounds the weight of its update; 0 for no bound.
        seed: Seed of the run; draws derive from (seed, round, device, layer).
        lpr: Layer-preserving rate of every unit that ``lpr_of`` does not name.
        lpr_of: Layer-preserving rate by unit id.
        exchange_every: Period in rounds, by unit id, of the units that are not exchanged in every round.
        manifest: Version of every unit that training starts from.
        deadline_seconds: Seconds until the deadline, counted from the sending, since clocks differ.
        patience_seconds: Seconds without a chunk after which missing chunks are requested; before, the broadcast may
            still be on its way through the broker.
        chunk_bytes: Largest payload bytes of a chunk of the upload.
        encoding: Encoding of the numbers in the update.
        holdout: Share of its samples that the device keeps out of training and judges the model on; 0 for none.
        answer: What exported models answer with, by which the device judges them.
        fresh_statistics: Whether the device measures statistics of batch norms for the weights that it has trained,
            since the coordinator has no data to measure them on.
        feedback_from: Round of this device's last update that is in the model, whose residual the update adds (error
            feedback); 0 if there is none, None without error feedback.
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
    holdout: Holdout = 0.0
    answer: AnswerMode = "exit"
    fresh_statistics: bool = False
    feedback_from: Natural | None = None


class UnitRequest(Message, frozen=True, kw_only=True):
    """This message requests missing chunks of a version, which are then sent to this device alone."""

    run: Name
    device: Name
    unit: UnitId
    digest: Digest
    missing: Ranges


class Progress(Message, frozen=True, kw_only=True):
    """This message reports the arrival of a broadcast chunk that asked for a report, so all chunks before it were
    delivered too.

    Attributes:
        blob: First half of the version's digest, which is all that a chunk has.
        index: Number of the chunk.
    """

    run: Name
    device: Name
    unit: UnitId
    blob: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    index: Natural


class UnitPayload(msgspec.Struct, frozen=True):
    """The place of one unit's deltas, a complete safetensors file, in the blob of an update."""

    unit: UnitId
    offset: Natural
    size: Natural


class Offer(Message, frozen=True, kw_only=True):
    """This message offers a finished update, which waits on the device's disk; it is repeated until a final Receipt.

    Attributes:
        digest: BLAKE3 digest of the blob.
        size: Bytes of the blob; 0 if every unit was pruned.
        units: Parts of the blob, without gaps, in the order of the blueprint.
        samples: Number of training samples behind the update.
        loss: Mean training loss of the last epoch.
        seconds: Seconds of training.
        bytes_down: Model bytes received for this round, and for earlier ones that were lost since, chunk headers
            included.
        payload_down: Bytes of the blobs that became whole among them, each once, without headers; 0 from an agent that
            does not count them.
        peak_memory: Bytes that training took on top of the idle worker.
        compute: Compute mode of the training, for people; see ``TrainingSettings``.
        chunk_bytes: Payload bytes of the blob's chunks, as its task said, since a restarted coordinator may say
            another number by now; 0 for the number of the latest task.
        heard: Number of the last Grant for the update that the device has received, 0 for none. A later grant is
            still on its way, so none of its chunks is missing yet. None from an agent that does not count grants.
        scores: What the model that training started from is worth on the device's held-out samples, by depth of the
            exit; empty if the device does not report that, or holds out no sample.
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
    scores: ScoresByDepth = {}
    payload_down: Natural = 0


class Grant(Message, frozen=True, kw_only=True):
    """This message asks a device to upload chunks, at most ``window`` of them unacknowledged by the broker.

    Attributes:
        number: Number of the grant among all grants for the update, from 1; the next Offer repeats it.
    """

    run: Name
    round: Natural
    device: Name
    digest: Digest
    missing: Ranges
    window: Annotated[int, msgspec.Meta(ge=1)]
    number: Natural = 0


class Receipt(Message, frozen=True, kw_only=True):
    """This message is the final answer to an update, after which the device deletes it.

    Attributes:
        state: Outcome: ``accepted`` (journaled by the coordinator), ``rejected`` (refused by admission, with the
            reason) or ``stale`` (the round or run is over).
    """

    run: Name
    round: Natural
    device: Name
    digest: Digest
    state: Literal["accepted", "rejected", "stale"]
    reason: Reason = ""


class Failure(Message, frozen=True, kw_only=True):
    """This message says that the device could not do a task or an assignment, and why.

    Attributes:
        bytes_down: Model bytes received for the task, and for earlier ones that were lost, chunk headers included.
        payload_down: Bytes of the blobs that became whole among them, each once, without headers.
    """

    run: Name
    device: Name
    session: Name
    round: Natural | None = None
    kind: Literal["memory", "model", "data", "worker"]
    reason: Reason
    bytes_down: Natural = 0
    payload_down: Natural = 0


class RunEnded(Message, frozen=True, kw_only=True):
    """This message says that the run is over; a device requests ``models`` and ``layers`` with UnitRequest.

    Attributes:
        models: ONNX file of the device's depth, or of the nearest depth that has one; empty if nothing was exported.
        layers: Final versions of units. Without ``models``, a device with a personal head makes its ONNX file itself
            of these and its head. With ``models``, they are those of the file's depth, with which the device checks
            the file, or of which it assembles a signed one.
        holdout: Share of its samples that the device has kept out of training and checks the final model on; 0 for
            none.
        refused: Reason why the device's depth has no ONNX file; empty if it has one, or none was wanted.
        ranges: Whether the device shall tell the ranges of the file's activations, since the coordinator has no data.
    """

    run: Name
    device: Name
    rounds: Natural
    models: tuple[UnitVersion, ...] = ()
    layers: tuple[UnitVersion, ...] = ()
    holdout: Holdout = 0.0
    refused: Reason = ""
    ranges: bool = False


class ModelProof(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device found when it compared an ONNX file in onnxruntime with the PyTorch model of the same weights.

    Attributes:
        depth: Depth of the file.
        samples: Number of the device's own samples that were compared; 0 if nothing could be compared.
        max_abs_diff: Largest absolute difference of an output.
        agreement: Share of the samples for which both give the same answer.
        problem: Why the file is not proved; empty if it is.
        scores: What the final model is worth on the device's held-out samples, by depth of the exit; empty if the
            device does not report that.
        ranges: Ranges of the file's activations on some of these; empty if they were not asked for.
    """

    depth: Annotated[int, msgspec.Meta(ge=1, le=9999)]
    samples: Natural = 0
    max_abs_diff: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    agreement: Share = 0.0
    problem: Reason = ""
    scores: ScoresByDepth = {}
    ranges: TensorRanges = ()

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class DeploymentReport(Message, frozen=True, kw_only=True):
    """This message reports a device's progress with the final model that RunEnded named.

    Attributes:
        state: Progress: ``receiving`` (some chunks are missing), ``received`` (all have arrived, and the device checks
            its ONNX file or makes it itself), ``installed`` (the model is in its place and computes) or ``failed``.
        reason: Reason of a failure.
        proof: Comparison of the file with the PyTorch model; None if the device made none.
    """

    run: Name
    device: Name
    state: Literal["receiving", "received", "installed", "failed"]
    reason: Reason = ""
    proof: ModelProof | None = None


class NamedFile(msgspec.Struct, frozen=True):
    """A file of a release and the blob that it is made of.

    Attributes:
        name: Name of the file, which its signature may cover; no place on a device.
        version: Version of the blob, which the device downloads by its digest.
    """

    name: FileName
    version: UnitVersion


class ShadowRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a new model must do beside the old one on the device's own inputs before it takes its place.

    Attributes:
        inputs: Most inputs that both models answer; 0 for no such exam.
        min_agreement: Least share of the inputs to which both give the same answer.
        max_loss: Most by which the share of right answers may fall, where the right answers are known.
    """

    inputs: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 64
    min_agreement: Share = 0.5
    max_loss: Share = 0.05


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several files of a release, of which a device installs the one that suits it by measurement.

    Attributes:
        model: Name of the ONNX file.
        self_test: Name of the file with its self-test; empty for none.
        depth: Depth of the model.
        precision: How the numbers of the file are stored.
        value: What the file is worth by the metric of the model; None if it is not known.
        warning: What the export warned of; empty for nothing.
    """

    model: FileName
    self_test: AnyFileName = ""
    depth: Annotated[int, msgspec.Meta(ge=1)]
    precision: ComputeWord = "fp32"
    value: float | None = None
    warning: Reason = ""


class Install(Message, frozen=True, kw_only=True):
    """This message tells a device to install a model of a release; a repeat asks for the last InstallReport.

    Attributes:
        run: Name of the roll-out.
        release: Name of the release.
        files: Files that the device downloads, by UnitRequest: the model, its self-test, and metadata that say who
            signed them.
        model: Name of the ONNX file.
        self_test: Name of the file with the inputs and answers of the self-test; empty for none.
        shadow: Rules of the exam beside the old model.
        probation_seconds: Seconds that the new model is watched after the switch, before it counts as installed.
        offers: Files of which the device measures each and installs the one that suits it, ``model`` among them; empty
            to install ``model``.
        higher: Whether a higher value of an offer is a better one.
    """

    run: Name
    device: Name
    release: Name
    files: Annotated[tuple[NamedFile, ...], msgspec.Meta(min_length=1, max_length=MAX_FILES)]
    model: FileName
    self_test: AnyFileName = ""
    shadow: ShadowRules = ShadowRules()
    probation_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 10.0
    offers: Annotated[tuple[ModelOffer, ...], msgspec.Meta(max_length=32)] = ()
    higher: bool = True


InstallState = Literal["receiving", "testing", "probation", "installed", "failed"]


class ShadowFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the exam beside the old model found.

    Attributes:
        inputs: Number of inputs that both models answered; 0 if there was no old model, or no input.
        agreement: Share of them to which both gave the same answer.
        old_right: Share of right answers of the old model; None where the right answers are not known.
        new_right: Share of right answers of the new model.
        old_milliseconds: Median time of an answer of the old model.
        new_milliseconds: Median time of an answer of the new model.
    """

    inputs: Natural = 0
    agreement: Share = 0.0
    old_right: Share | None = None
    new_right: Share | None = None
    old_milliseconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    new_milliseconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class InstallReport(Message, frozen=True, kw_only=True):
    """This message reports a device's progress with the model that Install named.

    Attributes:
        state: Progress: ``receiving`` (files are missing), ``testing`` (self-test and exam beside the old model),
            ``probation`` (the new model is in its place and watched), ``installed``, or ``failed`` (the device runs
            what it ran before).
        reason: Reason of a failure.
        shadow: What the exam beside the old model found; None before it, or if there was none.
    """

    run: Name
    device: Name
    release: Name
    state: InstallState
    reason: Reason = ""
    shadow: ShadowFigures | None = None


FromDevice = Ready | UnitRequest | Progress | Offer | Failure | DeploymentReport | InstallReport
FromCoordinator = Registered | Assignment | AssignmentRefused | Task | Grant | Receipt | RunEnded | Install

_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Encodes a message as JSON."""
    return _encoder.encode(message)


MessageT = TypeVar("MessageT", bound=Message)


class Decoder(Generic[MessageT]):
    """Decodes the messages of one topic, and refuses a payload that is too long unread.

    Args:
        kind: Type of the messages, or a union of types: ``Decoder[Ready | Offer](Ready | Offer, 1000)``.
        max_bytes: Most bytes of a payload.
    """

    def __init__(self, kind: object, max_bytes: int) -> None:
        self._decoder: msgspec.json.Decoder[MessageT] = msgspec.json.Decoder(kind)
        self._max_bytes = max_bytes

    def __call__(self, payload: bytes) -> MessageT:
        """Decodes one payload.

        Raises:
            PeerError: The payload is too long, not JSON, or not one of the expected messages.
        """
        if len(payload) > self._max_bytes:
            raise PeerError(f"control message of {len(payload)} bytes is over the limit of {self._max_bytes}")
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerError(f"malformed control message: {error}") from None
