"""Keeps the estimate of a device's link: measured before the first report, corrected by what rounds show.

``link_probe`` measures it by echoes, ``in_transit`` uses echoes to tell what is lost from what is late, and
``link_estimate`` has the rules by which missed and finished rounds change the rate. This module brings them together:
whatever is found becomes the estimate that downloads, uploads and rounds go by, and is told to the coordinator, which
plans with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec

from device_agent.protocol.events import Effects, Identity, Log
from device_agent.protocol.link.in_transit import InTransitCheck
from device_agent.protocol.link.link_estimate import Improvements, LinkEstimate, LinkState, MissedRounds
from device_agent.protocol.link.link_probe import LinkProbe, slower
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.wire.chunks import DEFAULT_CHUNK_BYTES


class LinkMonitor:
    """The link between this device and its broker, as far as it is known.

    Args:
        identity: Identity of the agent.
        draw: Function that returns a number of random bytes.
        state: State of the link, for all that send or receive over it.
        report: Publishes a rate in bytes per second that the coordinator is to plan with.
        measure: Whether echoes measure the link before the first report.
        use_echoes: Whether echoes tell what is lost from what is late; otherwise silence alone does.

    Attributes:
        topic: Topic of this device's echoes.
    """

    def __init__(
        self,
        identity: Identity,
        draw: Callable[[int], bytes],
        state: LinkState,
        report: Callable[[float], Effects],
        *,
        measure: bool = True,
        use_echoes: bool = True,
    ) -> None:
        self._state = state
        self._report = report
        self._probe = LinkProbe(identity, draw, allowed=measure)
        self._in_transit = InTransitCheck(identity, draw, works=None if use_echoes else False)
        self._missed_rounds = MissedRounds()
        self._improvements = Improvements()
        self._stated_rate: float | None = None
        self.topic = self._probe.topic

    def nothing_before(self, since: float, now: float) -> bool:
        """Returns whether nothing that was sent to this device before ``since`` is still in transit."""
        return self._in_transit.nothing_before(since, now)

    def next_wakeup(self) -> float | None:
        """Returns when one of the two ``poll`` has something to do unless an event comes first; None if never."""
        times = (self._probe.next_wakeup(), self._in_transit.next_wakeup())
        return min((time for time in times if time is not None), default=None)

    def poll_measurement(self, now: float) -> Effects:
        """Ends a measurement that has waited for long enough."""
        return self._probe.poll(now)

    def poll_in_transit(self, now: float) -> Effects:
        """Sends an echo if somebody wants to know what can still be in transit."""
        return self._in_transit.poll(now)

    def subscribed(self, topic: str, now: float) -> Effects:
        """Notes that the broker confirmed a subscription."""
        self._in_transit.subscribed(topic)
        return self._probe.subscribed(topic, now)

    def received_something(self, now: float) -> None:
        """Notes that a message, or a part of one, came."""
        self._in_transit.received_something(now)

    def echo(self, payload: bytes, now: float) -> Effects:
        """Takes a message on the topic of echoes."""
        self._in_transit.received(payload)
        return self._probe.received(payload, now)

    def refused(self, reason: str) -> Effects:
        """Notes that the broker does not carry an echo."""
        self._in_transit.set_works(works=False)
        return self._probe.refused(reason)

    def interrupted(self) -> Effects:
        """Notes that the connection is lost."""
        self._in_transit.interrupted()
        return self._probe.interrupted()

    @property
    def measured(self) -> bool:
        """Whether the measurement before the first report is over."""
        return self._probe.finished

    def measure(self, broker: BrokerLimits, now: float) -> Effects:
        """Begins the measurement if it is still to be made, since nothing else disturbs it now."""
        return self._probe.begin(broker, now)

    def measure_again(self) -> None:
        """Forgets a finished measurement, so that another one is made."""
        self._probe.reset()

    def with_rate(self, facts: DeviceFacts) -> DeviceFacts:
        """Returns the facts with the rate that was measured, if that is less than the stated one, and goes by it."""
        self._stated_rate = facts.link_bytes_per_second
        rate = slower(self._stated_rate, self._probe.rate)
        self._use_rate(rate)
        return msgspec.structs.replace(facts, link_bytes_per_second=rate)

    def missed_rounds(self) -> Effects:
        """Says what rounds that could not be done in time have shown of the link, so that the next is planned by it."""
        shown = self._state.take_missed_rate()
        rate = None if shown is None else self._missed_rounds.missed(shown)
        if rate is None or not self._state.estimate.falls_short(rate):
            return []
        self._improvements.fell()
        self._use_rate(rate)
        text = f"the link has carried {format_bytes(rate)}/s, too little for the round; the coordinator plans with that"
        return [Log(text, warning=True), *self._report(rate)]

    def done_in_time(self) -> Effects:
        """An update was accepted: the link may have become better than it was when it was measured, or fell."""
        self._missed_rounds.done()
        planned = self._state.estimate.rate
        # What was carried is forgotten with this: a receipt that comes twice is no second round.
        down, up = self._state.take_carried()
        rate = self._improvements.done(planned, down, up)
        rate = None if rate is None else slower(self._stated_rate, rate)
        if planned is None:
            return self._cut_by(up)
        if rate is None or rate <= planned:
            return []
        self._use_rate(rate)
        text = f"the link carries {format_bytes(rate)}/s by now; the coordinator plans with that"
        return [Log(text), *self._report(rate)]

    def _cut_by(self, carried: float | None) -> Effects:
        """Takes what a link of unknown rate carried of an update for the chunks of the next; nothing is planned by it.

        A rate that rounds have shown would hold a device to what it was once granted, where it may carry more.
        """
        link = self._state.estimate
        known = replace(link, carried=carried)
        if carried is None or known == link:
            return []
        self._state.estimate = known
        before, after = link.chunk_bytes(DEFAULT_CHUNK_BYTES), known.chunk_bytes(DEFAULT_CHUNK_BYTES)
        if before == after:
            return []
        text = f"the link was not measured and has carried {format_bytes(carried)}/s at the least"
        return [Log(f"{text}: updates go in messages of {format_bytes(after)} from here on")]

    def _use_rate(self, rate: float | None) -> None:
        if self._probe.works is not None:
            self._in_transit.set_works(works=self._probe.works)
            rate = math.inf if rate is None and self._probe.works else rate
        self._state.estimate = LinkEstimate(rate, self._probe.latency)
