"""Runs a roll-out's one loop: one thread takes in order what broker, operator and clock bring.

What is decided comes from ``core.rollout``; devices report, are ordered to install, and say how that ended.
"""

from __future__ import annotations

import logging
import math
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from coordinator.broker_clock import BrokerClock
from coordinator.coordinator_topic import CoordinatorTopic
from coordinator.fleet.message_rate_limit import MessageRateLimit
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.rollout.install_orders import InstallOrders, RolloutFiles
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan, Word
from coordinator.rollout.rollout_status_file import RolloutStatusFile
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
from fedlp_edge.system.printable import counted
from fedlp_edge.transport.base import BrokerLimits, Connected, Delivered, Disconnected, Received, Refused, Transport
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.chunks import chunk_bytes_for
from fedlp_edge.wire.messages import PROTOCOL, Decoder, FromDevice, InstallReport, Status, UnitRequest
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")

_TELL_AGAIN_SECONDS = 10.0  # from an order until a device that is there and silent about it is told again
_LONGEST_WAIT_SECONDS = 60.0
_ANSWER_SECONDS = 6.0  # in which an idle device that hears of a roll-out has said that it is there, on top of gathering
WORDS: dict[Word, JournaledEvent] = {
    "pause": RolloutPaused(),
    "resume": RolloutResumed(),
    "abort": RolloutAborted(),
}
"""What the operator's words mean to the state machine."""


@dataclass
class _Member:
    """A device that is online.

    Attributes:
        facts: What it says of itself.
        told_at: Time of the last order, in seconds.
    """

    facts: DeviceFacts | None = None
    told_at: float = -math.inf


@dataclass(frozen=True)
class RolloutContext:
    """What the parts of a roll-out have in common.

    Attributes:
        plan: What was asked for.
        files: What devices may get.
        directory: Directory of the roll-out, locked.
        machine: State machine, with all that the journal knows.
        messenger: Sends orders and announcements.
        say: Shows a line to the operator.
        clock: Monotonic seconds.
    """

    plan: RolloutPlan
    files: RolloutFiles
    directory: RolloutDirectory
    machine: RolloutMachine
    messenger: ControlMessenger
    say: Callable[[str], None]
    clock: Callable[[], float]


class RolloutLoop:
    """The loop of one roll-out, from the devices that are there to the last that has installed its model.

    Args:
        context: Context of the roll-out.
        inbox: Queue for the events of the transport and the stop signal.
        transport: Connected.
        limits: Limits of the broker.
        coordinator_topic: Topic on which another coordinator would announce itself.
    """

    def __init__(
        self,
        context: RolloutContext,
        inbox: queue.SimpleQueue[InboxItem],
        transport: Transport,
        limits: BrokerLimits,
        coordinator_topic: CoordinatorTopic,
    ) -> None:
        plan, messenger, clock = context.plan, context.messenger, context.clock
        chunk_bytes = chunk_bytes_for(limits)
        flow = FlowLimits.for_queue(limits.max_queued_messages, chunk_bytes)
        self._plan = plan
        self._directory = context.directory
        self._machine = context.machine
        self._messenger = messenger
        self._say = context.say
        self._clock = clock
        self._inbox = inbox
        self._transport = transport
        self._coordinator_topic = coordinator_topic
        self._broker_clock = BrokerClock(clock, LIMITS.return_seconds)
        self._topics = Topics(plan.fleet)
        self._publisher = WindowedPublisher(transport, LIMITS.window_chunks)
        self._server = ModelServer(self._topics, self._publisher, chunk_bytes, messenger.count, flow, clock)
        self._orders = InstallOrders(plan, context.files, context.directory.self_tests, self._server)
        self._status_file = RolloutStatusFile(context.directory, context.machine, clock)
        self._rates = MessageRateLimit(clock)
        self._refusals = BrokerRefusals(self._topics, clock)
        self._read_message = Decoder[FromDevice](FromDevice, LIMITS.control_bytes)
        self._read_status = Decoder[Status](Status, LIMITS.control_bytes)
        self._members: dict[str, _Member] = {}
        self._away: set[str] = set()
        self._unheard: set[str] = set()
        self._stopped = False

    def run(self, gather_seconds: float) -> None:
        """Runs until the roll-out is over, or until stopped.

        Args:
            gather_seconds: Seconds in which devices are seen before anything is decided.

        Raises:
            OperatorError: There is no device.
            BrokerError: The broker refuses a topic of the devices.
        """
        for branch in ("device", "up"):
            self._transport.subscribe(self._topics.of(branch, "+"))
        self._messenger.announce("running")
        self._status_file.take_up()
        try:
            self._gather(gather_seconds)
            if not self._machine.devices and not self._stopped:
                self._divide(gather_seconds)
            self._loop()
        finally:
            self._status_file.write()

    def _gather(self, seconds: float) -> None:
        """Sees who is there; a roll-out that goes on would else be over before it has seen those that it lacks.

        If nobody is, it waits longer: agents measure themselves before they report, some of them for half a minute.
        """
        self._take_until(self._clock() + seconds, lambda: False)
        # The broker keeps the status of a device for ever whose end it missed; who is there says something soon.
        self._take_until(self._clock() + _ANSWER_SECONDS, lambda: not self._unheard)
        for device in sorted(self._unheard - self._machine.devices.keys()):
            self._status_file.leave_out(device, "the broker has kept its status, and nothing else was heard of it")
        if self._machine.devices or self._present or self._stopped:
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
        return {device for device in self._members if device not in self._unheard and self._meant(device)}

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
        self._orders.make_self_tests(here)
        groups = rollout_groups(self._plan.settings, here, self._plan.release, self._plan.canaries)
        self._record(RolloutBegan(groups))
        for device in here:
            self._machine.seen(device, online=True)
        sizes = ", ".join(str(len(group)) for group in groups)
        self._say(f"release {self._plan.release}: {counted(len(here), 'device')} in groups of {sizes}")

    def _loop(self) -> None:
        while not self._stopped:
            self._tick()
            if self._machine.closed:
                return
            due = self._broker_clock.when(self._machine.next_wakeup())
            self._take_next(max(0.0, min(LIMITS.heartbeat_seconds, due - self._clock())))

    def _tick(self) -> None:
        if (word := self._directory.take_word()) is not None:
            self._record(WORDS[word])
            self._say(f"the roll-out is told to {word}: it is {self._machine.phase}")
        for event in self._machine.silent(self._broker_clock.now()):
            self._settle(event)
        for effect in self._machine.poll():
            match effect:
                case GroupOpened(group):
                    members = self._machine.groups[group]
                    self._say(f"group {group + 1} of {len(self._machine.groups)}: {_names(members)}")
                case OrderInstall(device):
                    self._record(InstallOrdered(device))
                    self._order(device)
        if self._coordinator_topic.answered():
            self._messenger.announce()
        self._status_file.tick()

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
            if status.device == leaf:
                if not retained:
                    self._unheard.discard(leaf)
                elif status.online and leaf not in self._members:
                    self._unheard.add(leaf)
                self._seen(status)
        elif branch == "up":
            message = self._read_message(payload)
            if message.device != leaf:
                raise PeerError("a device speaks in the name of another one")
            match message:
                case InstallReport() if self._rates.allows(leaf):
                    self._reported(message)
                case UnitRequest() if message.run == self._plan.run:
                    self._machine.heard(leaf, self._broker_clock.now())
                    self._server.repeat(message)
                case _:
                    pass

    # Devices

    def _seen(self, status: Status) -> None:
        device = status.device
        if status.online and (status.facts is None or status.protocol != PROTOCOL):
            why = f"its agent speaks protocol {status.protocol}, and this is {PROTOCOL}"
            self._status_file.leave_out(device, why)
            return
        if not status.online:
            self._unheard.discard(device)
            self._members.pop(device, None)
            self._away.add(device)
            self._machine.seen(device, online=False)
            self._server.gone(device)
            self._status_file.gone(device)
            return
        member = self._members.setdefault(device, _Member())
        member.facts = status.facts
        self._away.discard(device)
        if not self._machine.devices or not self._meant(device):
            return
        if device not in self._machine.devices:
            if device in self._unheard:
                return
            self._record(DeviceAdded(device))
        again = self._machine.seen(device, online=True)
        if again and self._clock() >= member.told_at + _TELL_AGAIN_SECONDS:
            self._order(device)
        self._status_file.changed()

    def _meant(self, device: str) -> bool:
        """Whether a device takes part; notes why if there is no file for it."""
        if self._plan.devices and device not in self._plan.devices:
            return False
        if why := self._orders.choose(device, self._members[device].facts):
            self._status_file.leave_out(device, why)
            return False
        self._status_file.give(device, self._orders.file_name(device))
        return True

    def _order(self, device: str) -> None:
        member = self._members.get(device)
        if member is not None and self._meant(device):
            member.told_at = self._clock()
            self._messenger.tell(self._orders.order(device, member.facts))

    def _reported(self, report: InstallReport) -> None:
        entry = self._machine.devices.get(report.device)
        if entry is None or (report.run, report.release) != (self._plan.run, self._plan.release) or not entry.told:
            return
        self._machine.heard(report.device, self._broker_clock.now())
        self._status_file.reported(report)
        if report.state in get_args(Outcome):
            outcome: Outcome = "installed" if report.state == "installed" else "failed"
            self._server.received_all(report.device)
            if (entry.outcome, entry.reason) != (outcome, report.reason):
                self._settle(DeviceSettled(report.device, outcome, report.reason))

    def _settle(self, event: DeviceSettled) -> None:
        self._record(event)
        self._say(f"{event.device}: {event.outcome}{f': {event.reason}' if event.reason else ''}")
        if self._machine.phase == "stopped":
            self._say(f"stopped: {self._machine.reason}")

    def _record(self, event: JournaledEvent) -> None:
        self._directory.append(event)
        self._machine.take(event, self._broker_clock.now())
        self._status_file.changed()


def _names(devices: tuple[str, ...]) -> str:
    shown = ", ".join(devices[: LIMITS.named_devices])
    more = len(devices) - LIMITS.named_devices
    return f"{shown} and {more} more" if more > 0 else shown
