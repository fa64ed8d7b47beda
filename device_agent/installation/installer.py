"""Installs a model of a release: verifies, tries, switches, watches, and goes back by itself.

Before the switch the old model answers, whatever happens; after it the new one is watched for a while, and an agent
that ends in between goes back to the old one at its next start. Each step is on the disk before the next one begins;
what must be written before anything else can be done is tried again until a disk that is full or read-only takes it:

``added`` (files stored) -> ``testing`` (self-test, exam beside the old model) -> ``probation`` (switched, first
inferences, watched) -> ``installed``; anything else ends as ``failed``, with the old model in its place.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from device_agent.installation.exam_process import ExamInput, ExamOrder, ExamProcess, ExamResult, ExamStoppedError
from device_agent.installation.installation_state import Candidate, InstallationState, load_state, save_state
from device_agent.installation.offer_choice import choose_offer, measured_cost, permitted_offers
from device_agent.installation.target_source import DigestSource, FileWantedError, MakeTargetSource
from device_agent.installation.version_store import VersionStore, kept_versions
from device_agent.limits import LIMITS
from device_agent.protocol.events import FilesWanted
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.core.planning.model_choice import NO_LIMITS, AnswerLimits
from fedlp_edge.errors import FedLPError, StorageError
from fedlp_edge.serving.live_inputs import LIVE, held_out_samples, live_inputs
from fedlp_edge.serving.serving_record import forget_record, read_record
from fedlp_edge.system.directories import make_directory
from fedlp_edge.wire.digests import digest_of_file
from fedlp_edge.wire.messages import Install, InstallReport, InstallState, ShadowFigures

log = logging.getLogger(__name__)

_LIMITS = LIMITS.installation
_UNWRITABLE = (OSError, StorageError)
SELF_TEST = "self_test.npz"


@dataclass(frozen=True)
class InstallerOptions:
    """What the owner of a device decides about installations, and how they are carried out.

    Attributes:
        keep: Number of versions that are kept, the current one included.
        make_source: Makes the source of verified files.
        measure: Measures what an answer of a file costs.
        limits: What an answer may take.
        trusts: Whether a model that is installed may answer; all may where there is no root of trust.
        serving: What answers with the installed model on this device; None if the agent starts nothing that does.
    """

    keep: int = 2
    make_source: MakeTargetSource = DigestSource
    measure: Callable[[Path], MeasuredCost] = measured_cost
    limits: AnswerLimits = NO_LIMITS
    trusts: Callable[[Path], bool] = lambda _path: True
    serving: ServingWatch | None = None


class ServingWatch(Protocol):
    """The interface to what answers requests with the installed model, and is started again whenever it ends."""

    @property
    def ends(self) -> int:
        """Number of times that it has ended by itself."""

    @property
    def answering(self) -> bool:
        """Whether it answers now."""


class ModelExam(Protocol):
    """The interface of what examines models."""

    def run(self, order: ExamOrder) -> ExamResult:
        """Examines a model; raises ExamStoppedError once ``stop`` was called."""

    def stop(self) -> None:
        """Ends the exam that is under way."""


class Installer:
    """The installations on one device.

    Args:
        device: Id of the device.
        store: Versions on the device.
        options: Options, see ``InstallerOptions``.
        executor: Does what takes long, one piece at a time.
        emit: Takes each report, and what more is to be downloaded, from whatever thread.
        exam: Examines models; in processes by default.
    """

    def __init__(
        self,
        device: str,
        store: VersionStore,
        options: InstallerOptions,
        executor: Executor,
        emit: Callable[[InstallReport | FilesWanted], None],
        exam: ModelExam | None = None,
    ) -> None:
        self._device = device
        self._store = store
        self._options = options
        self._executor = executor
        self._emit = emit
        self._exam = exam or ExamProcess()
        self._at_work = threading.Lock()
        self._state = InstallationState()
        self._shadow: ShadowFigures | None = None
        self._watched_until: float | None = None
        self._watch_at = 0.0
        self._ends_before: int | None = None
        self._ends_seen = 0
        self._held: Callable[[], None] | None = None
        self._held_until = 0.0
        self._recovered = True

    @property
    def unproven(self) -> bool:
        """Whether the link is still at a version that an earlier life of the agent was trying."""
        candidate = self._state.candidate
        return not self._recovered and candidate is not None and self._store.current == candidate.target

    def recover(self) -> None:
        """Takes up what an earlier life of the agent has left: first of all, the old model is in its place.

        A version that was being tried is tried again, unless the agent has ended too often while it was. Where the disk
        takes nothing, this is tried again until it does.
        """
        self._state = load_state(self._store.directory)
        self._recovered = False
        self._do_or_hold(self._take_up)

    def _take_up(self) -> None:
        self._drop_untrusted()
        candidate = self._state.candidate
        if candidate is None:
            if self._store.current != self._state.current:  # installed by an earlier version of the agent, or by hand
                self._keep(msgspec.structs.replace(self._state, current=self._store.current))
            self._store.keep_only((self._state.current, *self._state.previous))
            self._recovered = True
            return
        if self._store.current == candidate.target:
            self._store.switch(self._state.current)
        candidate = msgspec.structs.replace(candidate, phase="testing", attempts=candidate.attempts + 1)
        self._keep(msgspec.structs.replace(self._state, candidate=candidate))
        self._recovered = True
        if candidate.attempts >= _LIMITS.attempts:
            self._fail(candidate.install, f"the agent ended {candidate.attempts} times while it tried the model")
            return
        if not self._store.path(candidate.target).is_file():  # how it ended could not be written on a full disk
            self._fail(candidate.install, "its files are gone, as an earlier attempt ended while the disk was full")
            return
        log.info("release %s is tried again", candidate.install.release)
        self._executor.submit(self._guarded, candidate.install, lambda: self._try(candidate))

    def _drop_untrusted(self) -> None:
        """Takes away what was installed before this device had a root of trust, and was never verified."""
        before, link = self._state, self._store.current
        candidate = before.candidate if before.candidate and self._trusts(before.candidate.target) else None
        current = before.current if self._trusts(before.current) else ""
        previous = tuple(target for target in before.previous if self._trusts(target))
        after = msgspec.structs.replace(before, current=current, previous=previous, candidate=candidate)
        if link and not self._trusts(link):
            log.warning("%s is not signed, and answers no more; a signed release takes its place", Path(link).name)
            self._store.switch(current)
        if after != before:
            self._keep(after)

    def _trusts(self, target: str) -> bool:
        return bool(target) and self._options.trusts(self._store.path(target))

    @property
    def trying(self) -> Install | None:
        """Order whose model is being tried, which an earlier life of the agent may have begun; None for none."""
        candidate = self._state.candidate
        return None if candidate is None else candidate.install

    def last_word(self, install: Install) -> InstallReport | None:
        """What is to be said to a message without doing anything: how the same installation ended before.

        A version that is current already is not fetched again.
        """
        last, target = self._state.last, self._target_of(install)
        if last is not None and (last.run, last.release) == (install.run, install.release):
            return last
        if target == self._state.current == self._store.current and self._state.candidate is None:
            return self._report(install, "installed")
        return None

    def problem(self, install: Install, missing: int) -> str:
        """Why an installation cannot begin; empty if it can.

        Args:
            install: Message of the roll-out.
            missing: Bytes of its files that are not here yet.
        """
        if sum(file.version.size for file in install.files) > _LIMITS.file_bytes:
            return "the files of the release are larger than any that this device installs"
        place = self._store.directory
        while not place.exists():
            place = place.parent
        wanted, free = missing + _LIMITS.spare_bytes, shutil.disk_usage(place).free
        if free < wanted:
            return f"the disk has {free / 1e6:.0f} MB free, and {wanted / 1e6:.0f} MB are needed"
        return ""

    def install(self, install: Install, files: Mapping[str, Path]) -> None:
        """Begins to install files that were downloaded; the rest is told by reports.

        Args:
            install: Message of the roll-out.
            files: Paths of the files by name, their digests verified.
        """
        self._executor.submit(self._guarded, install, lambda: self._add(install, files))

    def watch(self, now: float) -> None:
        """The probation begins, which ``poll`` ends."""
        candidate = self._state.candidate
        if candidate is not None:
            self._watched_until, self._watch_at = now + candidate.install.probation_seconds, now

    def next_wakeup(self) -> float | None:
        """When ``poll`` has something to do; None if nothing is on probation, and nothing waits for the disk."""
        if self._held is not None:
            return self._held_until
        return None if self._watched_until is None else min(self._watched_until, self._watch_at)

    def poll(self, now: float) -> None:
        """Looks how the new model fares during its probation, and ends it; tries again what the disk did not take."""
        if self._held is not None:
            if now >= self._held_until:  # meanwhile nothing is tried in the other thread
                self._held_until = now + _LIMITS.hold_seconds
                self._do_or_hold(self._held)
            return
        candidate, until = self._state.candidate, self._watched_until
        if candidate is None or until is None:
            return
        self._watch_at = now + _LIMITS.watch_seconds
        if problem := self._served_badly(candidate):
            self._watched_until = None
            self._guarded(candidate.install, lambda: self._fail(candidate.install, problem))
        elif self._serving_restarts():  # a crash loop on a slow board is longer than a probation
            self._watched_until = now + candidate.install.probation_seconds
        elif now >= until:
            self._watched_until = None
            self._guarded(candidate.install, lambda: self._confirm(candidate))

    def adopt(self, target: str) -> None:
        """Makes a version current that proved itself otherwise, such as a run's final model; a trial ends.

        Raises:
            OSError: The disk is full or failed.
        """
        with self._at_work:  # an exam that is under way is waited for
            candidate, self._watched_until = self._state.candidate, None
            self._store.switch(target)
            self._held = None
            self._settle(target, None)
        if candidate is not None:  # whoever waits for its end is told, and may order it anew
            self._emit(self._report(candidate.install, "failed", "the final model of a run has taken its place"))

    def stop(self) -> None:
        """Ends what is under way; the old model is in its place, and the next life of the agent goes on.

        An end that was asked for is not held against the version that is being tried.
        """
        self._exam.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)
        candidate = self._state.candidate
        if candidate is None:
            return
        try:
            if self._store.current == candidate.target:
                self._store.switch(self._state.current)
            candidate = msgspec.structs.replace(candidate, phase="testing", attempts=candidate.attempts - 1)
            self._keep(msgspec.structs.replace(self._state, candidate=candidate))
        except _UNWRITABLE as error:
            log.warning("cannot write how far the installation has come: %s", _said(error))

    def _do_or_hold(self, work: Callable[[], None]) -> None:
        """Does what must reach the disk before anything else is done, or keeps it for later if the disk refuses it."""
        waited = self._held is not None
        try:
            work()
        except _UNWRITABLE as error:
            self._held = work
            if not waited:
                log.warning("%s: %s; the installation goes on once there is room", self._store.directory, _said(error))
        else:
            self._held = None
            if waited:
                log.info("%s can be written to again", self._store.directory)

    # In the executor's thread

    def _guarded(self, install: Install, work: Callable[[], None]) -> None:
        """Does a piece of work, whose errors end the installation and nothing else."""
        try:
            with self._at_work:
                work()
        except ExamStoppedError:
            pass  # it goes on in the next life of the agent
        except FileWantedError as error:
            self._emit(FilesWanted(install, error.names))
        except FedLPError as error:
            self._fail(install, str(error))
        except OSError as error:
            self._fail(install, f"{self._store.directory}: {_said(error)}")
        except Exception as error:  # a defect of a verifying library must not leave a device between two models
            log.exception("the installation of %s failed", install.release)
            self._fail(install, f"{type(error).__name__}: {error}")

    def _add(self, install: Install, files: Mapping[str, Path]) -> None:
        source = self._options.make_source(install, files)
        assigned = source.assigned()
        if install.offers:
            options = self._options
            offers = permitted_offers(install.offers, assigned.self_tests)
            offer = choose_offer(offers, source.fetch, options.measure, options.limits, higher=install.higher)
            assigned = replace(assigned, model=offer.model, self_test=offer.self_test)
        model = source.fetch(assigned.model)
        beside = {SELF_TEST: source.fetch(assigned.self_test)} if assigned.self_test else {}
        name = Path(assigned.model).name
        target = self._store.add(model, name, digest_of_file(model), beside)
        if target == self._state.current == self._store.current:
            self._end(self._report(install, "installed"))
            return
        candidate = Candidate(install=install, target=target, self_test=SELF_TEST if beside else "")
        self._keep(msgspec.structs.replace(self._state, candidate=candidate))
        self._try(candidate)

    def _try(self, candidate: Candidate) -> None:
        if self._state.candidate != candidate:
            return  # another model was made the current one before its turn came
        install = candidate.install
        self._emit(self._report(install, "testing"))
        old = self._state.current
        model = self._store.path(candidate.target)
        test = str(self._store.beside(candidate.target, candidate.self_test)) if candidate.self_test else ""
        rules = install.shadow
        inputs = exam_inputs(self._store.directory, rules.inputs) if old and rules.inputs else ()
        order = ExamOrder(
            model=str(model), self_test=test, old=str(self._store.path(old)) if inputs else "", inputs=inputs
        )
        result = self._exam.run(order)
        self._shadow = result.shadow
        if problem := result.problem or _shadow_problem(install, result.shadow):
            self._fail(install, f"the model {problem}")
            return
        candidate = msgspec.structs.replace(candidate, phase="probation")
        self._keep(msgspec.structs.replace(self._state, candidate=candidate))
        forget_record(self._store.directory)  # this version may have been tried before
        serving = self._options.serving  # what did not answer with the old model says nothing of the new one
        self._ends_before = serving.ends if serving is not None and old and serving.answering else None
        self._ends_seen = self._ends_before or 0
        self._store.switch(candidate.target)
        # As whoever answers with it will: through the link.
        first = self._exam.run(ExamOrder(model=str(self._store.link), self_test=test))
        if first.problem:
            self._fail(install, f"the model failed its first inferences: it {first.problem}")
            return
        self._emit(self._report(install, "probation"))

    # In either thread; never in both, since one waits for the other's report

    def _confirm(self, candidate: Candidate) -> None:
        self._settle(candidate.target, self._report(candidate.install, "installed"))

    def _settle(self, target: str, report: InstallReport | None) -> None:
        previous = (self._state.current, *self._state.previous)
        kept = kept_versions(target, previous, self._options.keep)
        state = InstallationState(current=target, previous=kept, last=report or self._state.last)
        self._keep(state)
        with suppress(*_UNWRITABLE):  # whatever answers may keep inputs for the next exam, and need not
            make_directory(self._store.directory / LIVE)
        self._store.keep_only((target, *kept))
        if report is not None:
            self._emit(report)

    def _fail(self, install: Install, reason: str) -> None:
        """Ends an installation with the old model in its place."""
        candidate = self._state.candidate
        report = self._report(install, "failed", reason)
        if candidate is not None and self._store.current == candidate.target:
            try:
                self._store.switch(self._state.current)
            except OSError as error:  # as soon as it can, or in the next life of the agent
                log.error("cannot go back to the model before: %s; it is tried again", _said(error))
                self._emit(self._report(install, "failed", f"{reason}; and the model before cannot be put back yet"))
                self._held, self._held_until = partial(self._put_back, report), 0.0
                return
        self._end(report)

    def _put_back(self, report: InstallReport) -> None:
        self._store.switch(self._state.current)
        self._end(report)

    def _end(self, report: InstallReport) -> None:
        state = msgspec.structs.replace(self._state, candidate=None, last=report)
        try:
            self._keep(state)
        except _UNWRITABLE as error:  # the next life of the agent finds out that nothing came of it
            log.warning("cannot write how the installation ended: %s", _said(error))
            self._state = state
        self._store.keep_only((self._state.current, *self._state.previous))
        self._emit(report)

    def _keep(self, state: InstallationState) -> None:
        save_state(state, self._store.directory)
        self._state = state

    def _target_of(self, install: Install) -> str:
        version = next((file.version for file in install.files if file.name == install.model), None)
        return "" if version is None else self._store.target(Path(install.model).name, version.digest)

    def _serving_restarts(self) -> bool:
        """Whether what answered with the old model has ended since the last look, or has not come back yet."""
        serving = self._options.serving
        if serving is None or self._ends_before is None:
            return False
        before, self._ends_seen = self._ends_seen, serving.ends
        return serving.ends > before or not serving.answering

    def _served_badly(self, candidate: Candidate) -> str:
        """What the process that answers with the new model has found; empty if nothing is wrong."""
        serving = self._options.serving
        if serving is not None and self._ends_before is not None:
            ends = serving.ends - self._ends_before
            if ends >= _LIMITS.serving_starts:
                return f"what answers with the model has ended {ends} times since the switch: a crash loop"
        record = read_record(self._store.directory)
        if record is None or record.file != str(self._store.path(candidate.target).resolve()):
            return ""
        if record.failures:
            return f"the model failed its first inferences: {record.reason}"
        if record.starts > _LIMITS.serving_starts:
            return f"what answers with the model has started {record.starts} times since the switch: a crash loop"
        return ""

    def _report(self, install: Install, state: InstallState, reason: str = "") -> InstallReport:
        return InstallReport(
            run=install.run,
            device=self._device,
            release=install.release,
            state=state,
            reason=reason[: LIMITS.messages.reason_characters],
            shadow=self._shadow if state != "receiving" else None,
        )


def _said(error: OSError | StorageError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def exam_inputs(directory: Path, most: int) -> tuple[ExamInput, ...]:
    """Returns inputs for the exam beside the old model: what was answered last, and samples that were held out.

    Args:
        directory: Directory of the device's models.
        most: Most inputs; half of them are held-out samples, if there are as many of both.
    """
    live = [ExamInput(str(path)) for path in live_inputs(directory)]
    held_out = [ExamInput(str(path), label) for path, label in held_out_samples(directory)]
    chosen = held_out[: max(most // 2, most - len(live))]
    return (*chosen, *live[: most - len(chosen)])


def _shadow_problem(install: Install, figures: ShadowFigures | None) -> str:
    """Why the answers beside the old model are not good enough, in words that follow "the model"; empty if they are."""
    rules = install.shadow
    if figures is None or not figures.inputs:
        return ""
    if figures.agreement < rules.min_agreement:
        return (
            f"agrees with the old one on {figures.agreement:.0%} of {figures.inputs} inputs of this device; "
            f"{rules.min_agreement:.0%} are asked for"
        )
    if figures.old_right is not None and figures.new_right is not None:
        loss = figures.old_right - figures.new_right
        if loss > rules.max_loss:
            return (
                f"answers {figures.new_right:.0%} of {figures.inputs} inputs of this device rightly, and the old one "
                f"{figures.old_right:.0%}"
            )
    return ""
