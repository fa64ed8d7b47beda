"""This module records a simulated run round by round: journal, summary and events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_scores import HeldOutScores, anomaly_thresholds, fleet_scores, summed_reports
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.start_weights import StartWeightsReport
from fedlp_edge.reporting import events
from fedlp_edge.reporting.answer_counts import AnswerCounts, answer_counts
from fedlp_edge.reporting.judged_rounds import JudgedRounds
from fedlp_edge.reporting.round_accounting import Delivery, Lack, coverage, device_round, round_finished
from fedlp_edge.reporting.summary import TIME_SHARE, FinalModel, RoundSummary, Summary, save
from fedlp_edge.simulation import scores
from fedlp_edge.simulation.engines.jobs import DeviceTrained, MetricsComputed, PartEvaluated, PersonalHeadEvaluated
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.model_publisher import ModelPublisher
from fedlp_edge.simulation.round_jobs import RoundJobs
from fedlp_edge.simulation.schedule import RoundClosing
from fedlp_edge.simulation.simulated_data import DataAssignment
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.storage.time_share import TimeShare


@dataclass
class PendingRound:
    """A round whose model is made and not evaluated yet.

    Attributes:
        closing: Closing of the round.
        trained: Replies of the devices that trained, by device id.
        failed: Reason of the failure, by id of each device that failed.
        seconds: Duration in seconds.
        depths: Depths of the exits to evaluate; empty for none.
        judged: Results of the evaluated parts of the test set, in any order.
        own: Results of the personal heads, after the last round.
        own_metrics: What a task of the user's own makes of the results; None for a task that FedLP Edge contains.
    """

    closing: RoundClosing
    trained: dict[str, DeviceTrained]
    failed: dict[str, str]
    seconds: float = 0.0
    depths: tuple[int, ...] = ()
    judged: list[PartEvaluated] = field(default_factory=list)
    own: list[PersonalHeadEvaluated] = field(default_factory=list)
    own_metrics: MetricsComputed | None = None


class RunRecorder:
    """The recorder of one run.

    Args:
        experiment: Experiment.
        directory: Run directory.
        journal: Journal of the run.
        emit: Callback for events.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        journal: Journal,
        emit: Callable[[events.AnyEvent], None],
    ) -> None:
        self._experiment = experiment
        self._directory = directory
        self._journal = journal
        self._emit = emit
        self._time_share = TimeShare(TIME_SHARE, time.monotonic)
        self._start_weights: StartWeightsReport | None = None
        self._places: tuple[int, dict[str, CohortMember]] = (0, {})
        self.summaries = [msgspec.json.decode(row, type=RoundSummary) for row in journal.summaries()]
        self.judged = JudgedRounds(experiment.judging, self.summaries)

    @property
    def committed(self) -> int:
        """Number of the last committed round; 0 before the first."""
        return self.summaries[-1].round if self.summaries else 0

    def places(self, round: int) -> dict[str, CohortMember]:
        """Returns the cohort members of a committed round, by device id."""
        if self._places[0] != round:
            self._places = (round, {place.device: place for place in self._journal.places(round)})
        return self._places[1]

    def begin(
        self,
        blueprint: Blueprint,
        fleet: Mapping[str, VirtualDevice],
        assignment: DataAssignment,
        round_jobs: RoundJobs,
        publisher: ModelPublisher,
        start_weights: StartWeightsReport | None = None,
        model: ModelSettings | None = None,
    ) -> None:
        """Emits the start of the run and its devices.

        Args:
            blueprint: Blueprint of the model.
            fleet: Devices by id.
            assignment: Samples of the devices.
            round_jobs: Jobs of the rounds.
            publisher: Publisher of the model.
            start_weights: Report on the start weights; None if there are none.
            model: Settings of the model with the names and numbers of its outputs; None for those of the experiment.
        """
        self._model = self._experiment.model if model is None else model
        self._blueprint, self._fleet, self._assignment, self._round_jobs = blueprint, fleet, assignment, round_jobs
        self._start_weights = start_weights
        self._publisher = publisher
        for summary in self.summaries:
            self._note_downloads(summary)
        now = time.time()
        self._emit(
            events.RunStarted(
                time=now,
                run=self._experiment.run_name,
                fleet=self._experiment.name,
                model=self._experiment.model.name,
                depths=blueprint.full_depth,
                parameters=blueprint.costs[-1].parameters,
                rounds=self._experiment.rounds.count,
                resumed_at=self.committed + 1 if self.summaries else None,
                start_weights=start_weights.line if start_weights else "",
                metric=self.judged.metric,
                answer=self._experiment.answer,
            )
        )
        for device in fleet.values():
            self._emit(_introduction(device, now))

    def opened(self, round: int, devices: tuple[str, ...]) -> None:
        """Emits the start of a round."""
        deadline = self._experiment.rounds.deadline_seconds
        self._emit(events.RoundStarted(time=time.time(), round=round, devices=devices, deadline_seconds=deadline))

    def extended(self, round: int, contributors: int, quorum: int) -> None:
        """Emits that a round had too few updates and is extended."""
        self._emit(events.RoundFailed(time=time.time(), round=round, contributors=contributors, quorum=quorum))

    def waiting(self, present: int, wanted: int) -> None:
        """Emits that too few devices are present."""
        self._emit(events.WaitingForDevices(time=time.time(), present=present, wanted=wanted))

    def accepted(self, closing: RoundClosing, reply: DeviceTrained) -> None:
        """Emits that a device's update was accepted."""
        place = closing.contributors[reply.device]
        self._emit(
            events.UpdateAccepted(
                time=time.time(),
                round=closing.round,
                device=reply.device,
                layers_sent=tuple(self._round_jobs.drawn(closing, place)),
                samples=reply.samples,
                loss=reply.loss,
                seconds=reply.seconds,
                bytes_up=reply.bytes_up,
            )
        )

    def gave_up(self, closing: RoundClosing, device: str, reason: str) -> None:
        """Emits that a device could not train."""
        self._emit(events.DeviceFailed(time=time.time(), round=closing.round, device=device, reason=reason))

    def worker_died(self, reason: str) -> None:
        """Emits that a worker was replaced."""
        self._emit(events.WorkerReplaced(time=time.time(), reason=reason))

    def commit(self, page: PendingRound) -> None:
        """Commits a round, once its model is evaluated."""
        summary = self._summarised(page)
        self._journal.open_round(summary.round, page.closing.capacity, tuple(page.closing.given.values()))
        self._journal.commit_round(summary.round, msgspec.json.encode(summary))
        self.summaries.append(summary)
        self._note_downloads(summary)
        self.judged.add(summary)
        self._note_answers(page)
        self._emit(round_finished(summary, len(page.trained)))
        if self._time_share.is_due:
            self.keep()

    def _note_answers(self, page: PendingRound) -> None:
        """Keeps how the model answered to the test set, for the picture of the final one."""
        if not page.judged:
            return
        summed = scores.summed(page.judged)
        sums = summed.ensembles if self._experiment.answer == "mean" else summed.exits
        depth = self.judged.judged_depth(sums)
        if depth in sums and (answers := answer_counts(self._model, "central", depth, sums[depth])) is not None:
            kept = self.judged.kept_rounds
            self._journal.put_answers(page.closing.round, msgspec.json.encode(answers), kept)

    def _answers(self, round: int, reports: Mapping[str, Mapping[int, HeldOutScores]]) -> AnswerCounts | None:
        """How the model of a round answered to the test set or, without one, to what devices hold out."""
        if (central := self._journal.answers(round)) is not None:
            return msgspec.json.decode(central, type=AnswerCounts)
        sums = summed_reports(reports)
        depth = max(sums, default=0)
        return answer_counts(self._model, "devices", depth, sums[depth]) if depth else None

    def ends_with(self, page: PendingRound) -> bool:
        """Returns whether no round is left to do after this one, which is evaluated."""
        return self.judged.ends_with(self._summarised(page))

    def keep(self) -> None:
        """Writes ``summary.json`` up to the last committed round."""
        with self._time_share.measured():
            save(self._summary(None), self._directory.summary)

    def finish(self, final: FinalModel, seconds: float, scores: Mapping[str, Mapping[int, HeldOutScores]]) -> Summary:
        """Writes the final summary and emits the end of the run; returns the summary.

        Args:
            final: The model that the run ends with.
            seconds: Seconds that the run took.
            scores: What that model is worth on the devices' held-out samples, by device and depth.
        """
        on_devices = fleet_scores(self._experiment.model.task, scores)
        answers = self._answers(final.round, scores)
        summary = self._summary(msgspec.structs.replace(final, on_devices=on_devices, answers=answers))
        save(summary, self._directory.summary)
        self._emit(
            events.RunFinished(
                time=time.time(),
                rounds=len(summary.rounds),
                accuracy=final.accuracy,
                metrics=final.metrics,
                model_digest=final.model_digest,
                seconds=seconds,
                enough=final.enough,
                best=final.round if final.metric else None,
            )
        )
        return summary

    def _summarised(self, page: PendingRound) -> RoundSummary:
        task, answer = self._experiment.model.task, self._experiment.answer
        said = scores.combine_scores(page.judged, task, page.own_metrics, answer)
        closing, sent, lines = page.closing, {}, []
        on_devices = {device: reply.scores for device, reply in page.trained.items() if reply.scores}
        uniform, model = self._experiment.scheme.weights == "uniform", self._experiment.model
        for name, place in sorted({**closing.lost, **closing.contributors}.items()):
            units = self._blueprint.exchanged_by(place.depth)
            version = place.task_round(closing.round) - 1
            nbytes = self._publisher.lacking(name, version, units)
            staleness = closing.round - place.task_round(closing.round)
            profile = self._fleet[name].profile
            done = page.trained.get(name)
            if done is None:
                lack: Lack = "failed" if name in page.failed else "lost"
                line = device_round(
                    place, profile, units, lack, bytes_down=nbytes, payload_down=nbytes, staleness=staleness
                )
                lines.append(line)
                continue
            kept = self._round_jobs.drawn(closing, place)
            weight = self._round_jobs.factor(closing, place) * (1 if uniform else min(done.samples, place.weight))
            delivery = Delivery(
                sent=kept,
                samples=done.samples,
                weight=weight,
                loss=done.loss,
                seconds=done.seconds,
                bytes_down=nbytes,
                bytes_up=done.bytes_up,
                payload_down=nbytes,
                payload_up=done.bytes_up,
                compute=done.compute,
            )
            sent[name] = (kept.keys(), weight)
            lines.append(device_round(place, profile, units, delivery, staleness=staleness))
        depths = {device.id: device.plan.depth for device in self._fleet.values()}
        numbers = {device.id: device.number for device in self._fleet.values()}
        return RoundSummary(
            round=closing.round,
            seconds=page.seconds,
            answer=answer,
            accuracy=said.accuracy,
            devices=tuple(lines),
            coverage=coverage(self._blueprint, sent),
            loss=said.loss,
            metrics=said.metrics,
            # The widths of a width-scaled model are no exits of one model, so they form no ensemble.
            ensemble={} if self._blueprint.widths else said.ensemble,
            exits=said.exits,
            tiers=scores.own_by_tier(page.own, numbers, self._assignment.priors, task)
            | scores.by_tier(said, depths, numbers, self._assignment.priors, task),
            on_devices=fleet_scores(task, on_devices),
            thresholds=anomaly_thresholds(model.anomaly_quantile, on_devices) if model.task == "anomaly" else {},
            not_reporting=len(page.trained) - len(on_devices) if self._experiment.holdout_share else 0,
            virtual_seconds=closing.seconds,
            published=self._publisher.changed(closing.round),
        )

    def _note_downloads(self, summary: RoundSummary) -> None:
        """Notes what the devices of a committed round have of the model since."""
        for device in summary.devices:
            version = summary.round - device.staleness - 1
            self._publisher.note_downloaded(device.id, version, self._blueprint.exchanged_by(device.depth))

    def _summary(self, final: FinalModel | None) -> Summary:
        return Summary(
            run=self._experiment.run_name,
            fleet=self._experiment.name,
            model=self._experiment.model.name,
            rounds=tuple(self.summaries),
            final=final,
            start_weights=self._start_weights,
            task=self._experiment.model.task,
            metric=self.judged.metric,
        )


def _introduction(device: VirtualDevice, now: float) -> events.AnyEvent:
    plan = device.plan
    if not plan.depth:
        return events.DeviceUnfit(time=now, device=device.id, explanation=plan.explanation)
    return events.DeviceJoined(
        time=now,
        device=device.id,
        profile=device.profile,
        samples=device.member.samples,
        depth=plan.depth,
        lpr=plan.lpr,
        explanation=plan.explanation,
    )
