"""Carries out a roll-out: one process on the broker, which may be killed at any time and goes on where it was.

It stands where the fleet's coordinator stands, so it refuses to begin while one is at work. What it decides comes from
``core.rollout``; this module has the messages, the files that devices fetch, and the journal.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from coordinator.broker_clock import BrokerClock
from coordinator.coordinator_topic import CoordinatorTopic, first_connection, settle_in
from coordinator.fleet.message_rate_limit import MessageRateLimit
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.rollout.file_choice import choose_file, offered_files, why_none
from coordinator.rollout.ordered_files import METADATA_SUFFIX, OrderedFiles, OrderFiles
from coordinator.rollout.release_files import ReleaseFile, self_test_of
from coordinator.rollout.rollout_directory import DeviceStanding, RolloutDirectory, RolloutPlan, RolloutStatus, Word
from coordinator.topic_claim import TopicClaimedError, claimed_by
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.messenger import ControlMessenger
from coordinator.transfer.model_server import ModelServer
from coordinator.transfer.refusals import BrokerRefusals
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.rollout.rollout_events import (
    DeviceAdded,
    DeviceSettled,
    GroupOpened,
    InstallOrdered,
    JournaledEvent,
    OrderInstall,
    Outcome,
    RolloutAborted,
    RolloutBegan,
    RolloutPaused,
    RolloutResumed,
)
from fedlp_edge.core.rollout.rollout_machine import RolloutMachine
from fedlp_edge.core.rollout.rollout_settings import rollout_groups
from fedlp_edge.errors import OperatorError, PeerError
from fedlp_edge.transport.base import BrokerLimits, Connected, Delivered, Disconnected, Received, Refused, Transport
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.chunks import chunk_bytes_for
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import (
    PROTOCOL,
    FromDevice,
    Install,
    InstallReport,
    ModelOffer,
    NamedFile,
    Status,
    UnitRequest,
    UnitVersion,
    decoder,
)
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")

_TELL_AGAIN_SECONDS = 10.0  # from an order until a device that is there and silent about it is told again
_STATUS_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
WORDS: dict[Word, JournaledEvent] = {
    "pause": RolloutPaused(),
    "resume": RolloutResumed(),
    "abort": RolloutAborted(),
}
"""What the operator's words mean to the state machine."""


@dataclass
class _Member:
    """A device as the broker shows it.

    Attributes:
        facts: What it says of itself.
        session: Session of its agent.
        report: Last report of the roll-out.
        told_at: Time of the last order, in seconds.
    """

    facts: DeviceFacts | None = None
    session: str = ""
    report: InstallReport | None = None
    told_at: float = -math.inf


@dataclass
class RolloutFiles:
    """What devices may get.

    Attributes:
        files: Files of the release.
        planned: Depth of each device in the run of the release, by id; empty where there was none.
        signed: Signs that a device gets a file, and returns all that it needs; None if files are not signed.
    """

    files: tuple[ReleaseFile, ...]
    planned: Mapping[str, int] = field(default_factory=dict)
    signed: OrderFiles | None = None


class Rollout:
    """One roll-out.

    Args:
        plan: What was asked for.
        files: What devices may get.
        directory: Directory of the roll-out, locked.
        inbox: Queue for the events of the transport and the stop signal.
        transport: Transport, not yet started.
        say: Shows a line to the operator.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        plan: RolloutPlan,
        files: RolloutFiles,
        directory: RolloutDirectory,
        inbox: queue.SimpleQueue[InboxItem],
        transport: Transport,
        say: Callable[[str], None] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._files = files
        self._directory = directory
        self._inbox = inbox
        self._transport = transport
        self._say = say
        self._clock = clock
        self._broker_clock = BrokerClock(clock, LIMITS.return_seconds)
        self._topics = Topics(plan.fleet)
        self._messenger = ControlMessenger(transport, self._topics, plan.run)
        self._coordinator_topic = CoordinatorTopic(self._messenger, plan.run, clock)
        self._publisher = WindowedPublisher(transport, LIMITS.window_chunks)
        self._server: ModelServer | None = None
        self._rates = MessageRateLimit(clock)
        self._refusals = BrokerRefusals(self._topics, clock)
        self._read_message = decoder(FromDevice, LIMITS.control_bytes)
        self._read_status = decoder(Status, LIMITS.control_bytes)
        self._members: dict[str, _Member] = {}
        self._away: set[str] = set()
        self._left_out: dict[str, str] = {}
        self._file_of: dict[str, ReleaseFile] = {}
        self._installs: dict[str, Install] = {}
        self._versions: dict[Path, UnitVersion] = {}
        self._shown_at = 0.0
        self._changed = True
        self._stopped = False
        self.machine = RolloutMachine(plan.settings)

    def run(self, gather_seconds: float) -> bool:
        """Carries the roll-out out until it is over, or until stopped.

        Args:
            gather_seconds: Seconds in which devices are seen before anything is decided.

        Returns:
            Whether it is over; otherwise the same call goes on with it.

        Raises:
            OperatorError: Another coordinator is at work, or there is no device.
            BrokerError: The first connection to the broker failed.
        """
        self.machine.replay(self._directory.events(), self._broker_clock.now())
        if self.machine.closed:
            self._show(now=True)
            return True
        self._transport.start(self._inbox.put)
        try:
            limits = first_connection(self._inbox)
            if limits is None or not settle_in(self._inbox, self._transport, self._topics, self._coordinator_topic):
                return False
            self._begin(limits)
            try:
                self._gather(gather_seconds)
                if not self.machine.devices and not self._stopped:
                    self._divide(gather_seconds)
                self._loop()
            finally:
                self._show(now=True)
                if self._coordinator_topic.settled:
                    self._messenger.announce("finished" if self.machine.closed else "offline", leaving=True)
        except TopicClaimedError as occupied:
            raise OperatorError(
                f'{claimed_by(str(occupied))} is at work for fleet "{self._plan.fleet}"; let it end, or stop it, and '
                "deploy then"
            ) from None
        finally:
            self._transport.stop()
        return self.machine.closed

    # The course

    def _begin(self, limits: BrokerLimits) -> None:
        chunk_bytes, count = chunk_bytes_for(limits), self._messenger.count
        flow = FlowLimits.for_queue(limits.max_queued_messages, chunk_bytes)
        self._server = ModelServer(self._topics, self._publisher, chunk_bytes, count, flow, self._clock)
        for branch in ("device", "up"):
            self._transport.subscribe(self._topics.of(branch, "+"))
        self._messenger.announce("running")

    def _gather(self, seconds: float) -> None:
        """Sees who is there; a roll-out that goes on would else be over before it has seen those that it lacks.

        If nobody is, it waits longer: agents measure themselves before they report, some of them for half a minute.
        """
        self._take_until(self._clock() + seconds, lambda: False)
        if self.machine.devices or self._present or self._stopped:
            return
        whom = f" for {_names(tuple(sorted(self._away)))}, which the broker knows" if self._away else ""
        self._say(f"no device is there yet; waiting up to {_LONGEST_WAIT_SECONDS:g} s{whom}")
        self._take_until(self._clock() + _LONGEST_WAIT_SECONDS, lambda: bool(self._present))
        self._take_until(self._clock() + seconds, lambda: not self._present)  # others may be about to report

    def _take_until(self, until: float, done: Callable[[], bool]) -> None:
        while not self._stopped and not done() and (left := until - self._clock()) > 0:
            self._take_next(left)

    @property
    def _present(self) -> set[str]:
        """Devices that are there and take part."""
        return {device for device in self._members if self._meant(device)}

    def _divide(self, seconds: float) -> None:
        """Divides those that are there into groups.

        Raises:
            OperatorError: Nobody is there that could be told.
        """
        here = self._present
        if not here:
            waited = seconds + _LONGEST_WAIT_SECONDS
            raise OperatorError(
                f'no device of fleet "{self._plan.fleet}" that suits the release was seen in {waited:g} s; start '
                "agents, or wait longer with --gather"
            )
        missing = [device for device in self._plan.canaries if device not in here]
        if missing:
            raise OperatorError(f"{', '.join(missing)} is to be the canary and is not there; name another device")
        for file in {self._file_of[device] for device in here} if self._files.signed is None else ():
            self_test_of(file, self._directory.self_tests)  # one that does not run here is found before anybody is told
        groups = rollout_groups(self._plan.settings, here, self._plan.release, self._plan.canaries)
        self._record(RolloutBegan(groups))
        for device in here:
            self.machine.seen(device, online=True)
        sizes = ", ".join(str(len(group)) for group in groups)
        self._say(f"release {self._plan.release}: {len(here)} devices in groups of {sizes}")

    def _loop(self) -> None:
        while not self._stopped:
            self._tick()
            if self.machine.closed:
                return
            due = self._broker_clock.when(self.machine.next_wakeup())
            self._take_next(max(0.0, min(LIMITS.heartbeat_seconds, due - self._clock())))

    def _tick(self) -> None:
        if (word := self._directory.take_word()) is not None:
            self._record(WORDS[word])
            self._say(f"the roll-out is told to {word}: it is {self.machine.phase}")
        for event in self.machine.silent(self._broker_clock.now()):
            self._settle(event)
        for effect in self.machine.poll():
            match effect:
                case GroupOpened(group):
                    members = self.machine.groups[group]
                    self._say(f"group {group + 1} of {len(self.machine.groups)}: {_names(members)}")
                case OrderInstall(device):
                    self._record(InstallOrdered(device))
                    self._order(device)
        if self._coordinator_topic.answered():
            self._messenger.announce()
        self._show()

    def _take_next(self, timeout: float) -> None:
        try:
            item = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return
        match item:
            case StopRequested():
                self._stopped = True
            case Received(topic, payload, retained):
                try:
                    self._receive(topic, payload, retained=retained)
                except PeerError as error:
                    if self._rates.allows(self._topics.parse(topic)[1]):
                        log.warning("ignored a message on %s: %s", topic, error)
            case Delivered(token):
                self._publisher.delivered(token)
            case Connected(limits):
                self._broker_clock.go()
                if self._server is not None:
                    self._server.narrow(chunk_bytes_for(limits))
                self._coordinator_topic.ask()
            case Disconnected(reason, repeated):
                self._broker_clock.stop()
                if not repeated:
                    log.warning("lost the broker: %s", reason)
            case Refused():
                self._refusals.take(item, self._publisher.delivered)
            case _:
                pass

    def _receive(self, topic: str, payload: bytes, *, retained: bool) -> None:
        if topic == self._topics.coordinator:
            self._coordinator_topic.receive(payload, retained=retained)
            return
        branch, leaf = self._topics.parse(topic)
        if branch == "device" and payload:
            status = self._read_status(payload)
            if isinstance(status, Status) and status.device == leaf:
                self._seen(status)
        elif branch == "up":
            message = self._read_message(payload)
            if getattr(message, "device", None) != leaf:
                raise PeerError("a device speaks in the name of another one")
            match message:
                case InstallReport() if self._rates.allows(leaf):
                    self._reported(message)
                case UnitRequest() if message.run == self._plan.run and self._server is not None:
                    self.machine.heard(leaf, self._broker_clock.now())
                    self._server.repeat(message)
                case _:
                    pass

    # Devices

    def _seen(self, status: Status) -> None:
        device = status.device
        if status.online and (status.facts is None or status.protocol != PROTOCOL):
            self._left_out[device] = f"its agent speaks protocol {status.protocol}, and this is {PROTOCOL}"
            return
        if not status.online:
            self._members.pop(device, None)
            self._away.add(device)
            self.machine.seen(device, online=False)
            if self._server is not None:
                self._server.gone(device)
            self._changed = True
            return
        member = self._members.setdefault(device, _Member())
        member.facts, member.session = status.facts, status.session
        self._away.discard(device)
        if not self.machine.devices or not self._meant(device):
            return
        if device not in self.machine.devices:
            self._record(DeviceAdded(device))
        again = self.machine.seen(device, online=True)
        if again and self._clock() >= member.told_at + _TELL_AGAIN_SECONDS:
            self._order(device)
        self._changed = True

    def _meant(self, device: str) -> bool:
        """Whether a device takes part; notes why if there is no file for it."""
        if self._plan.devices and device not in self._plan.devices:
            return False
        if device in self._file_of:
            return True
        facts = self._members[device].facts
        file = choose_file(self._files.files, self._plan.wishes, facts, self._files.planned.get(device))
        if file is None:
            self._left_out[device] = why_none(self._files.files, self._plan.wishes, facts)
            return False
        self._file_of[device] = file
        return True

    def _order(self, device: str) -> None:
        member = self._members.get(device)
        if member is None or not self._meant(device):
            return
        if device not in self._installs:
            self._installs[device] = self._install_of(device, self._file_of[device])
        member.told_at = self._clock()
        self._messenger.tell(self._installs[device])

    def _install_of(self, device: str, file: ReleaseFile) -> Install:
        offered = offered_files(self._files.files, self._plan.wishes, self._members[device].facts, file)
        if self._files.signed is not None:
            found = self._files.signed(device, file.path, [further.path for further in offered if further != file])
        else:
            found = self._unsigned(file, offered)
        return Install(
            run=self._plan.run,
            device=device,
            release=self._plan.release,
            files=tuple(self._named(name, path) for name, path in found.files.items()),
            model=found.model,
            self_test=found.self_test,
            shadow=self._plan.shadow,
            probation_seconds=self._plan.probation_seconds,
            offers=tuple(
                ModelOffer(
                    model=found.choices[further.path][0],
                    self_test=found.choices[further.path][1],
                    depth=further.depth,
                    precision=further.precision,
                    value=further.value,
                    warning=further.warning,
                )
                for further in offered
                if further.path in found.choices
            ),
            higher=file.higher,
        )

    def _unsigned(self, file: ReleaseFile, offered: Sequence[ReleaseFile]) -> OrderedFiles:
        """Returns what a device gets that trusts who may speak as the coordinator."""
        tests = {each: self_test_of(each, self._directory.self_tests) for each in (file, *offered)}
        return OrderedFiles(
            {path.name: path for each, test in tests.items() for path in (each.path, test)},
            file.path.name,
            tests[file].name,
            {each.path: (each.path.name, tests[each].name) for each in offered},
        )

    def _named(self, name: str, path: Path) -> NamedFile:
        if path in self._versions and path.suffix != METADATA_SUFFIX:
            return NamedFile(name, self._versions[path])
        if self._server is None:
            raise AssertionError("files are named once the broker is connected")
        content = path.read_bytes()
        unit = f"file-{digest_of(content)[:16]}"
        self._server.put(unit, content)
        (version,) = self._server.versions([unit])
        self._versions[path] = version
        return NamedFile(name, version)

    def _reported(self, report: InstallReport) -> None:
        entry = self.machine.devices.get(report.device)
        if entry is None or (report.run, report.release) != (self._plan.run, self._plan.release) or not entry.told:
            return
        self.machine.heard(report.device, self._broker_clock.now())
        self._members.setdefault(report.device, _Member()).report = report
        self._changed = True
        if report.state in get_args(Outcome):
            outcome: Outcome = "installed" if report.state == "installed" else "failed"
            if self._server is not None:
                self._server.received_all(report.device)
            if (entry.outcome, entry.reason) != (outcome, report.reason):
                self._settle(DeviceSettled(report.device, outcome, report.reason))

    def _settle(self, event: DeviceSettled) -> None:
        self._record(event)
        self._say(f"{event.device}: {event.outcome}{f': {event.reason}' if event.reason else ''}")
        if self.machine.phase == "stopped":
            self._say(f"stopped: {self.machine.reason}")

    def _record(self, event: JournaledEvent) -> None:
        self._directory.append(event)
        self.machine.take(event, self._broker_clock.now())
        self._changed = True

    def _show(self, *, now: bool = False) -> None:
        """Writes where all stands, not more often than anybody looks."""
        time_now = self._clock()
        if not self.machine.devices:
            return
        if now or (self._changed and time_now >= self._shown_at + _STATUS_SECONDS):
            self._shown_at, self._changed = time_now, False
            self._directory.put_status(self.status())

    def status(self) -> RolloutStatus:
        """Returns where the roll-out stands."""
        machine = self.machine
        return RolloutStatus(
            phase=machine.phase,
            reason=machine.reason,
            open_groups=machine.open_groups,
            groups=len(machine.groups),
            devices={device: self._standing(device) for device in machine.devices},
            left_out={device: why for device, why in self._left_out.items() if device not in machine.devices},
        )

    def _standing(self, device: str) -> DeviceStanding:
        entry, member = self.machine.devices[device], self._members.get(device)
        report = None if member is None else member.report
        state: str = entry.outcome or ("told" if entry.told else "waiting" if entry.online else "away")
        if entry.outcome is None and report is not None:
            state = report.state
        file = self._file_of.get(device)
        return DeviceStanding(
            group=entry.group + 1,
            file="" if file is None else file.path.name,
            state=state,
            reason=entry.reason,
            shadow=None if report is None else report.shadow,
        )


def _names(devices: tuple[str, ...]) -> str:
    shown = ", ".join(devices[: LIMITS.named_devices])
    more = len(devices) - LIMITS.named_devices
    return f"{shown} and {more} more" if more > 0 else shown
