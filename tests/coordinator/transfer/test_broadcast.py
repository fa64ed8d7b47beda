"""How far a broadcast runs ahead of its readers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.link_rates import Links, UnknownLinks
from coordinator.limits import LIMITS
from coordinator.transfer.broadcast import Broadcast
from coordinator.transfer.flow_limits import FlowLimits
from fedlp_edge.wire.messages import Progress, UnitVersion

Sent = tuple[str, int, bool]


def version(unit: str, chunks: int) -> UnitVersion:
    return UnitVersion(unit, unit.encode().hex().ljust(64, "0"), chunks * 10, 10)


class Air:
    """Takes what is sent; a broker that has everything at once, or when told."""

    def __init__(
        self,
        window: int | None,
        *,
        immediate: bool = True,
        links: Links | None = None,
        reader_seconds: float = math.inf,
    ) -> None:
        self.now = 0.0
        self.sent: list[Sent] = []
        self.done: list[Callable[[], None]] = []
        self.immediate = immediate
        flow = FlowLimits(window, 8, 8, reader_seconds)
        self.broadcast = Broadcast(flow, self._send, lambda: self.now, links or UnknownLinks())

    def _send(self, version: UnitVersion, start: int, stop: int, report: bool, done: Callable[[], None]) -> None:
        self.sent += [(version.unit, index, report and index == stop - 1) for index in range(start, stop)]
        if self.immediate:
            done()
        else:
            self.done.append(done)

    def take(self) -> list[Sent]:
        taken, self.sent = self.sent, []
        return taken

    def report(self, device: str, unit: str, index: int) -> None:
        blob = version(unit, 1).digest[:32]
        self.broadcast.reported(Progress(run="r", device=device, unit=unit, blob=blob, index=index))


def indices(sent: list[Sent]) -> list[int]:
    return [index for _, index, _ in sent]


def test_sends_everything_at_once_and_asks_nobody_when_it_fits_the_window() -> None:
    for window in (None, 5):
        air = Air(window)
        air.broadcast.start([(version("L1", 3), ["a"]), (version("L2", 2), ["a"])])
        assert air.take() == [("L1", 0, False), ("L1", 1, False), ("L1", 2, False), ("L2", 0, False), ("L2", 1, False)]


def test_keeps_two_slices_ahead_of_the_slowest_reader() -> None:
    air = Air(4)
    air.broadcast.start([(version("L1", 8), ["a", "b"])])
    assert air.take() == [("L1", 0, False), ("L1", 1, True), ("L1", 2, False), ("L1", 3, True)]
    air.report("a", "L1", 1)
    assert air.take() == []
    assert air.broadcast.pending(version("L1", 8).digest) == 4
    air.report("b", "L1", 1)
    assert indices(air.take()) == [4, 5]
    air.report("a", "L1", 3)
    air.report("b", "L1", 5)  # implies what came before it
    assert indices(air.take()) == [6, 7]
    assert air.broadcast.pending(version("L1", 8).digest) == 0


def test_asks_each_reader_at_the_last_chunk_that_it_gets() -> None:
    air = Air(8)
    air.broadcast.start([(version("L1", 2), ["deep", "shallow"]), (version("L2", 20), ["deep"])])
    slices = air.take()
    assert [(unit, index) for unit, index, asks in slices if asks] == [("L1", 1), ("L2", 1), ("L2", 5)]
    air.report("deep", "L1", 1)  # not its last of the slice
    assert air.take() == []
    air.report("deep", "L2", 1)
    assert air.take() == []
    air.report("shallow", "L1", 1)
    assert indices(air.take()) == [6, 7, 8, 9]


def test_does_not_wait_for_readers_that_are_gone_or_silent() -> None:
    air = Air(2)
    air.broadcast.start([(version("L1", 9), ["a", "dead", "gone"])])
    assert indices(air.take()) == [0, 1]
    air.report("a", "L1", 1)
    air.broadcast.gone("gone")
    assert air.take() == []
    air.now = LIMITS.reader_seconds
    air.broadcast.tick()
    assert indices(air.take()) == [2, 3]
    air.report("a", "L1", 2)
    assert indices(air.take()) == [4]
    air.report("dead", "L1", 1)  # it lives
    air.report("a", "L1", 4)
    assert indices(air.take()) == [5, 6]
    air.report("a", "L1", 6)
    assert air.take() == []


def test_counts_patience_from_the_moment_the_broker_has_the_slice() -> None:
    air = Air(2, immediate=False)
    air.broadcast.start([(version("L1", 4), ["dead"])])
    assert indices(air.take()) == [0, 1]
    air.now = 100.0
    air.broadcast.tick()
    assert air.take() == []
    for done in air.done:
        done()
    air.now += LIMITS.reader_seconds
    air.broadcast.tick()
    assert indices(air.take()) == [2, 3]


def test_drops_what_is_left_when_the_next_broadcast_starts() -> None:
    air = Air(2)
    air.broadcast.start([(version("L1", 9), ["a"])])
    air.take()
    air.broadcast.start([(version("L2", 1), ["a"])])
    assert air.take() == [("L2", 0, False)]
    assert air.broadcast.pending(version("L1", 9).digest) == 0
    air.report("a", "L1", 1)
    assert air.take() == []


@given(
    window=st.integers(2, 12),
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    depths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    data=st.data(),
)
def test_never_fills_a_readers_queue_beyond_the_window(
    window: int, counts: list[int], depths: list[int], data: st.DataObject
) -> None:
    air = Air(window)
    readers = {f"d{number}": depth for number, depth in enumerate(depths)}
    units = [(version(f"L{n}", count), [d for d in readers if readers[d] >= n]) for n, count in enumerate(counts, 1)]
    queues: dict[str, deque[Sent]] = {device: deque() for device in readers}
    got: dict[str, int] = dict.fromkeys(readers, 0)

    def arrive() -> None:
        for unit, index, asks in air.take():
            for device, queue in queues.items():
                if readers[device] >= int(unit[1:]):
                    queue.append((unit, index, asks))
        assert all(len(queue) <= window for queue in queues.values())

    air.broadcast.start([(v, who) for v, who in units if who])
    arrive()
    while waiting := [device for device, queue in queues.items() if queue]:
        device = data.draw(st.sampled_from(waiting))
        unit, index, asks = queues[device].popleft()
        got[device] += 1
        if asks:
            air.report(device, unit, index)
        air.broadcast.tick()
        arrive()
    assert got == {device: sum(counts[: readers[device]]) for device in readers}


def test_shares_of_a_queue_leave_room_for_control_messages() -> None:
    for messages in (2, 10, 50, 100, 1000, 100_000):
        flow = FlowLimits.for_queue(messages, 1024)
        assert flow.broadcast is not None
        assert flow.broadcast <= max(2, messages // 2)
        assert flow.repeat <= max(1, messages // 4)
        assert flow.credit <= max(1, messages // 2)
    assert FlowLimits.for_queue(None, 1024).broadcast is None


def test_waits_for_a_slow_reader_as_long_as_its_link_needs() -> None:
    class OneSlow(UnknownLinks):
        def rate(self, device: str) -> float | None:
            return 1.0 if device == "slow" else 1e6

    air = Air(4, links=OneSlow())  # slices of two chunks of ten bytes
    air.broadcast.start([(version("L1", 8), ["slow", "fast"])])
    air.take()
    air.report("fast", "L1", 3)

    air.now = 80.0 + LIMITS.reader_seconds - 0.1
    air.broadcast.tick()
    assert air.take() == []
    air.now += 0.2
    air.broadcast.tick()
    assert indices(air.take()) == [4, 5, 6, 7]


def test_waits_no_longer_than_a_share_of_the_round_whatever_a_reader_says_of_its_link() -> None:
    class Absurd(UnknownLinks):
        def rate(self, device: str) -> float | None:
            return 1e-300 if device == "liar" else None

    air = Air(4, links=Absurd(), reader_seconds=75.0)
    air.broadcast.start([(version("L1", 8), ["liar", "honest"])])
    air.take()
    air.report("honest", "L1", 3)

    air.now = 74.9
    air.broadcast.tick()
    assert air.take() == []
    air.now = 75.0
    air.broadcast.tick()
    assert indices(air.take()) == [4, 5, 6, 7]
