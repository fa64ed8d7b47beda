"""The echo on timelines in literal values: what a link of so many bytes a second does, and what bad echoes do not."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.limits import LIMITS
from device_agent.protocol.events import (
    DeviceMeasured,
    Effects,
    Log,
    MeasureAgain,
    SendProbe,
    Subscribe,
    Tick,
    Unsubscribe,
)
from device_agent.protocol.link.link_probe import LinkProbe, slower
from fedlp_edge.transport.base import BrokerLimits, Connected, Disconnected, Received, Refused, Subscribed
from fedlp_edge.wire.messages import AssignmentRefused, Status
from tests.device_agent.support import (
    BROKER_LIMITS,
    FACTS,
    ME,
    TOPICS,
    Device,
    announcement,
    assignment,
    numbered,
    only,
    published,
)

TOPIC = "fedlp/demo/echo/pi"


@dataclass
class Line:
    """A link to a broker that stores each message and forwards it, in virtual time.

    Attributes:
        up: bytes per second towards the broker.
        down: bytes per second back.
        latency: seconds there and back.
        lost: numbers of messages that the broker does not bring back.
    """

    up: float
    down: float
    latency: float = 0.0
    lost: frozenset[int] = frozenset()
    now: float = 0.0
    sent: int = 0
    sizes: list[int] = field(default_factory=list)
    _in_transit: list[tuple[float, int, bytes]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _up_free: float = 0.0
    _down_free: float = 0.0

    def run(self, link_probe: LinkProbe, limits: BrokerLimits = BROKER_LIMITS) -> Effects:
        """Plays a measurement to its end and returns its last words."""
        self.carry(link_probe.begin(limits, self.now))
        last = self.carry(link_probe.subscribed(TOPIC, self.now))
        while not link_probe.finished:
            last = self.step(link_probe)
        return last

    def step(self, link_probe: LinkProbe) -> Effects:
        """The next arrival, or the moment at which the device gives up."""
        due = link_probe.next_wakeup()
        assert due is not None
        if self._in_transit and self._in_transit[0][0] <= due:
            self.now, _, payload = heapq.heappop(self._in_transit)
            return self.carry(link_probe.received(payload, self.now))
        self.now = due
        return self.carry(link_probe.poll(self.now))

    def carry(self, effects: Effects) -> Effects:
        for effect in effects:
            if isinstance(effect, SendProbe):
                size = len(effect.payload)
                self._up_free = max(self.now, self._up_free) + size / self.up
                self._down_free = max(self._up_free, self._down_free) + size / self.down
                number = next(self._numbers)
                self.sizes.append(size)
                if number not in self.lost:
                    heapq.heappush(self._in_transit, (self._down_free + self.latency, number, effect.payload))
        return effects


def link_probe(**options: bool) -> LinkProbe:
    return LinkProbe(ME, numbered(), **options)


def started(device: LinkProbe) -> bytes:
    """Up to the first message, which is returned."""
    device.begin(BROKER_LIMITS, 0.0)
    return only(device.subscribed(TOPIC, 0.0), SendProbe).payload


@pytest.mark.parametrize("rate", [1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_finds_the_rate_of_a_symmetric_link(rate: float, latency: float) -> None:
    device = link_probe()
    Line(rate, rate, latency).run(device)

    assert device.rate is not None
    assert 0.85 * rate < device.rate <= rate * 1.001


@pytest.mark.parametrize(("up", "down"), [(1e5, 2e6), (2e6, 1e5)])
def test_finds_the_slower_direction_of_an_asymmetric_link(up: float, down: float) -> None:
    device = link_probe()
    Line(up, down, 0.03).run(device)

    assert device.rate is not None
    assert 0.85e5 < device.rate <= 1.001e5


def test_spends_little_on_a_slow_link_and_a_megabyte_at_most_on_a_fast_one() -> None:
    slow, fast = Line(5e4, 5e4, 0.01), Line(1e9, 1e9, 0.001)
    slow.run(link_probe())
    fast.run(link_probe())

    assert sum(slow.sizes) == 3 * 64 + 4096 + 16384
    assert 0.9 * LIMITS.link_probe.total_bytes < sum(fast.sizes) <= LIMITS.link_probe.total_bytes


@given(
    rate=st.floats(10, 1e9),
    other=st.floats(10, 1e9),
    latency=st.floats(0, 1.0),
    packet=st.integers(1_600, 300_000),
    lost=st.frozensets(st.integers(0, 60), max_size=5),
)
def test_ends_in_time_and_never_finds_more_than_twice_the_link(
    rate: float, other: float, latency: float, packet: int, lost: frozenset[int]
) -> None:
    device, line = link_probe(), Line(rate, other, latency, lost)
    line.run(device, BrokerLimits("5", packet, 20))

    assert line.now <= LIMITS.link_probe.longest_seconds
    assert sum(line.sizes) <= LIMITS.link_probe.total_bytes
    assert max(line.sizes) < packet
    assert device.rate is None or 0 < device.rate <= 2.001 * min(rate, other)


def test_is_quiet_on_a_metered_link() -> None:
    device = link_probe(allowed=False)

    assert device.begin(BROKER_LIMITS, 0.0) == []
    assert (device.finished, device.rate) == (True, None)


def test_ignores_old_foreign_oversized_and_repeated_echoes() -> None:
    device = link_probe()
    ping = started(device)
    other = bytes([ping[0] ^ 1]) + ping[1:]

    for payload in (b"", other, ping[:-1], ping + b"\0", bytes(16 << 20)):
        assert device.received(payload, 0.1) == []
    second = only(device.received(ping, 0.2), SendProbe).payload
    assert second != ping
    assert device.received(ping, 0.3) == []
    assert [type(effect) for effect in device.received(second, 0.4)] == [SendProbe]


def test_goes_on_without_when_no_echo_comes() -> None:
    device = link_probe()
    started(device)

    assert device.poll(LIMITS.link_probe.patience_seconds - 0.1) == []
    ended = device.poll(LIMITS.link_probe.patience_seconds)
    assert (device.works, device.finished) == (False, True)
    note = only(ended, Log)
    assert note.warning
    assert note.text.startswith(f"link: unknown: nothing comes back on {TOPIC}")
    assert (device.finished, device.rate, device.next_wakeup()) == (True, None, None)


def test_goes_on_without_when_the_broker_does_not_confirm_the_subscription() -> None:
    device = link_probe()
    device.begin(BROKER_LIMITS, 0.0)
    device.poll(LIMITS.link_probe.patience_seconds)

    assert (device.finished, device.rate) == (True, None)


def test_ignores_echoes_that_come_after_the_end() -> None:
    device = link_probe()
    ping = started(device)
    device.poll(LIMITS.link_probe.patience_seconds)

    assert device.received(ping, 6.0) == []
    assert device.subscribed(TOPIC, 6.0) == []
    assert device.refused("late") == []
    assert device.rate is None


def test_takes_what_came_of_the_last_exchange_when_the_rest_is_lost() -> None:
    device = link_probe()
    Line(1e4, 1e4, lost=frozenset({3 + 6, 3 + 7})).run(device)

    assert device.rate is not None
    assert 0.85e4 < device.rate <= 1e4


def test_takes_the_exchange_before_when_nothing_of_the_last_one_comes() -> None:
    device = link_probe()
    Line(1e5, 1e5, lost=frozenset(range(3 + 8, 3 + 16))).run(device)

    assert device.rate is not None
    assert 0.85e5 < device.rate <= 1e5


def test_says_that_a_link_takes_no_time_at_all() -> None:
    device = link_probe()
    text = only(Line(math.inf, math.inf).run(device), Log).text

    assert device.rate is None
    assert text == "link: faster than can be measured through the broker, which answers after 0.0 ms"


def test_says_what_it_has_found() -> None:
    text = only(Line(1e5, 1e5, 0.02).run(link_probe()), Log).text

    assert text.startswith("link: 8")
    assert text.endswith(" kB/s through the broker, which answers after 21.3 ms")


def test_tries_again_on_the_next_connection_and_then_no_more() -> None:
    device = link_probe()
    first = started(device)
    assert device.interrupted() == []
    assert device.begin(BROKER_LIMITS, 2.0) == [Subscribe(TOPIC)]
    second = only(device.subscribed(TOPIC, 2.0), SendProbe).payload
    assert device.received(first, 2.1) == []
    assert second != first

    assert "the connection broke" in only(device.interrupted(), Log).text
    assert device.finished


def test_plans_with_the_slower_of_what_is_stated_and_measured() -> None:
    assert slower(None, None) is None
    assert slower(2.0, None) == slower(None, 2.0) == slower(2.0, 3.0) == slower(3.0, 2.0) == 2.0


# In the protocol


def reported_rate(device: Device, line: Line, effects: Effects) -> tuple[float | None, Effects]:
    """Plays the measurement that a device has asked for; returns the rate that it reports, and its last effects."""
    assert effects == [Subscribe(TOPIC)]
    effects = line.carry(device.handle(Subscribed(TOPIC), line.now))
    while not published(effects):
        line.now, _, payload = heapq.heappop(line._in_transit)
        effects = line.carry(device.handle(Received(TOPIC, payload, False), line.now))
    (status,) = published(effects)
    assert isinstance(status, Status)
    assert status.facts is not None
    return status.facts.link_bytes_per_second, effects


def test_reports_the_device_with_its_link_once_both_are_measured() -> None:
    device, line = Device(measure_link=True), Line(1e5, 1e5)
    assert Subscribe(TOPIC) not in device.handle(Connected(BROKER_LIMITS))
    rate, effects = reported_rate(device, line, device.handle(DeviceMeasured(FACTS)))

    assert rate is not None
    assert 0.85e5 < rate <= 1e5
    assert not any(isinstance(effect, Unsubscribe) for effect in effects)  # the topic is of use later, too
    assert device.machine.next_wakeup() == LIMITS.presence.search_seconds  # then it asks where the coordinator is


def test_measures_the_link_again_when_a_moment_of_trouble_kept_the_device_out() -> None:
    device, bad, good = Device(measure_link=True), Line(1e3, 1e3), Line(1e5, 1e5)

    device.handle(Connected(BROKER_LIMITS))
    device.receive(TOPICS.coordinator, announcement(), retained=True)
    assert reported_rate(device, bad, device.handle(DeviceMeasured(FACTS)))[0] == pytest.approx(1e3, rel=0.2)
    device.down(AssignmentRefused(run="run", device="pi", reason="nothing fits"), 100.0)
    due = 100.0 + LIMITS.presence.measure_first_seconds
    assert device.machine.next_wakeup() == due
    _note, measure_again = device.handle(Tick(), due)
    assert measure_again == MeasureAgain()
    good.now = due + 10
    assert reported_rate(device, good, device.handle(DeviceMeasured(FACTS), good.now))[0] == pytest.approx(1e5, rel=0.2)

    device.down(assignment(), 200.0)
    assert not any(isinstance(effect, MeasureAgain) for effect in device.handle(Tick(), 1e6))


def test_reports_the_stated_link_when_the_broker_has_older_rules() -> None:
    facts = msgspec.structs.replace(FACTS, link_bytes_per_second=5.0)
    device = Device(measure_link=True)
    device.handle(DeviceMeasured(facts))
    device.handle(Connected(BROKER_LIMITS))
    assert device.machine.next_wakeup() == LIMITS.link_probe.patience_seconds
    effects = device.handle(Tick(), LIMITS.link_probe.patience_seconds)

    assert [message.facts for message in published(effects) if isinstance(message, Status)] == [facts]


@pytest.mark.parametrize("token", [None, 1], ids=["subscription", "publish"])
def test_reports_at_once_when_the_broker_refuses_the_echo(token: int | None) -> None:
    device = Device(measure_link=True)
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    effects = device.handle(Refused(TOPIC, "Not authorized", token))

    assert [type(message) for message in published(effects)] == [Status]
    assert "refuses" in only(effects, Log).text
    assert device.handle(Refused(TOPIC, "Not authorized", 2)) == []


def test_reports_after_the_reconnect_when_the_connection_is_lost_for_good_while_measuring() -> None:
    device = Device(measure_link=True)
    device.handle(DeviceMeasured(FACTS))
    for _ in range(2):
        device.handle(Connected(BROKER_LIMITS))
        device.handle(Subscribed(TOPIC))
        effects = device.handle(Disconnected("gone"))
        assert published(effects) == []

    assert [type(message) for message in published(device.handle(Connected(BROKER_LIMITS)))] == [Status]
