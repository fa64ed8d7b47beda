"""Collects what devices find about their final models: whether the ONNX file computes as PyTorch, and its scores."""

from __future__ import annotations

import logging

import msgspec

from fedlp_edge.core.device_scores import DeviceScores, HeldOutScores, fleet_scores, summed_reports
from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.errors import PeerError
from fedlp_edge.reporting.summary import FileProof
from fedlp_edge.storage.journal import Journal
from fedlp_edge.wire.admission import admit_scores
from fedlp_edge.wire.messages import ModelProof

log = logging.getLogger("fedlp.coordinator")

_NOT_TOLD = "the device has not said what it found"


class DeviceFinding(msgspec.Struct, frozen=True):
    """The finding of one device, as the journal keeps it.

    Attributes:
        depth: Depth of the file.
        samples: Number of samples of its own on which the device compared the file; 0 if it could not compare it.
        max_abs_diff: Largest absolute difference of an output.
        agreement: Share of samples with the same answer.
        problem: Why the file is not proved; empty if it is.
        scores: What the final model is worth on the device's held-out samples; None if it is not told.
        ranges: Ranges of the file's activations on these, with which ``fedlp export`` makes int8 files.
    """

    depth: int
    samples: int = 0
    max_abs_diff: float = 0.0
    agreement: float = 0.0
    problem: str = ""
    scores: HeldOutScores | None = None
    ranges: TensorRanges = ()


class DeviceFindings:
    """The findings of the devices of one run, those that an earlier life of the coordinator has heard included.

    Args:
        journal: Remembers what was found.
        task: Name of the task that was learned.
        model: Digest of the final model.
    """

    def __init__(self, journal: Journal, task: str, model: str) -> None:
        self._journal = journal
        self._task = task
        self._model = model
        kept = journal.findings(model).items()
        self._told = {device: msgspec.msgpack.decode(finding, type=DeviceFinding) for device, finding in kept}
        self._depth_of = {device: finding.depth for device, finding in self._told.items()}
        self._samples_of: dict[str, int] = {}

    @property
    def told(self) -> bool:
        """Whether any device has reported a finding."""
        return bool(self._told)

    @property
    def installed(self) -> tuple[str, ...]:
        """Ids of the devices that have found nothing wrong with their files."""
        return tuple(device for device, finding in self._told.items() if not finding.problem)

    @property
    def not_reporting(self) -> int:
        """Number of devices that were asked and have not reported the scores of the model."""
        return len(self._depth_of) - sum(finding.scores is not None for finding in self._told.values())

    def ask(self, device: str, depth: int, samples: int) -> None:
        """Notes that a device gets the file of a depth and is asked for its finding.

        Args:
            device: Id of the device.
            depth: Depth of the file.
            samples: Number of samples that the device said that it has.
        """
        self._samples_of[device] = samples
        if device not in self._told:
            self._depth_of[device] = depth

    def awaits(self, device: str) -> bool:
        """Returns whether a device was asked for its finding and has not reported it yet."""
        return device in self._samples_of and device not in self._told

    def reported(self, device: str, proof: ModelProof) -> None:
        """Takes a device's finding; values that cannot be right are left out."""
        if not self.awaits(device):
            return
        depth, samples = self._depth_of[device], self._samples_of[device]
        if proof.depth != depth or proof.samples > samples:
            log.warning("%s reports on another model than it got; that is ignored", device)
            return
        scores: HeldOutScores | None = None
        try:
            scores = admit_scores(proof.scores, self._task, (depth,), samples).get(depth)
        except PeerError as error:
            log.warning("what %s says that its final model is worth is ignored: %s", device, error)
        ranges = () if proof.problem else proof.ranges
        finding = DeviceFinding(
            depth, proof.samples, proof.max_abs_diff, proof.agreement, proof.problem, scores, ranges
        )
        self._told[device] = finding
        self._journal.put_finding(device, self._model, msgspec.msgpack.encode(finding))
        if proof.problem:
            log.warning("%s has not proved its final model: %s", device, proof.problem)

    def proofs(self) -> tuple[FileProof, ...]:
        """Returns what was found about each file, shallowest first."""
        return tuple(self._proof(depth) for depth in sorted(set(self._depth_of.values())))

    def scores(self) -> dict[int, DeviceScores]:
        """Returns the scores of the final model on the devices' held-out samples, by depth."""
        return fleet_scores(self._task, self._reports)

    def sums(self) -> dict[int, MetricSums]:
        """Returns the sums of the final model's answers to the devices' held-out samples, by depth."""
        return summed_reports(self._reports)

    @property
    def _reports(self) -> dict[str, dict[int, HeldOutScores]]:
        return {d: {finding.depth: finding.scores} for d, finding in self._told.items() if finding.scores is not None}

    def _proof(self, depth: int) -> FileProof:
        asked = sorted(device for device, of_file in self._depth_of.items() if of_file == depth)
        told = {device: self._told[device] for device in asked if device in self._told}
        compared = [finding for finding in told.values() if finding.samples]
        proved = [finding for finding in compared if not finding.problem]
        return FileProof(
            depth=depth,
            asked=len(asked),
            proved=len(proved),
            samples=sum(finding.samples for finding in proved),
            max_abs_diff=max((finding.max_abs_diff for finding in compared), default=0.0),
            agreement=min((finding.agreement for finding in compared), default=0.0),
            problems={
                device: told[device].problem if device in told else _NOT_TOLD
                for device in asked
                if device not in told or told[device].problem
            },
        )
