"""What networks and brokers do to packets, on a real Mosquitto behind a proxy that misbehaves.

Every fleet must end with the model of the fleet in virtual time that nothing happened to, bit for bit; all devices
contribute to every round, and nobody trains twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.network import NetworkFleet, named
from tests.fleets.proxy import Action, FaultyProxy, Rule
from tests.fleets.virtual import VirtualFleet

pytestmark = pytest.mark.system

DEVICES, ROUNDS = 2, 2
WIDTH = 20_000
"""Numbers in a unit, so that it takes more than twenty chunks of a broker with small packets."""

SMALL_PACKETS = ("max_packet_size 4000",)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[VirtualFleet, Summary]:
    fleet = VirtualFleet(tmp_path_factory.mktemp("virtual"), devices=DEVICES, rounds=ROUNDS, width=WIDTH)
    fleet.start_all()
    return fleet, fleet.finish()


@pytest.fixture(scope="module")
def broker() -> Iterator[MosquittoBroker]:
    with MosquittoBroker(extra=SMALL_PACKETS) as running:
        yield running


@pytest.fixture
def proxy(broker: MosquittoBroker) -> Iterator[FaultyProxy]:
    with FaultyProxy(broker.host, broker.port) as running:
        yield running


Run = Callable[..., None]


@pytest.fixture
def run(undisturbed: tuple[VirtualFleet, Summary], tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Runs a fleet and compares its end with the undisturbed one's."""

    def to_the_end(urls: dict[str, str]) -> None:
        virtual, expected = undisturbed
        config = named(virtual.config, f"f{abs(hash(request.node.name)):x}")
        with NetworkFleet(tmp_path, config, urls, width=WIDTH) as fleet:
            fleet.start_all(DEVICES)
            summary = fleet.finish()
        assert summary.final == expected.final
        assert [entry.coverage for entry in summary.rounds] == [entry.coverage for entry in expected.rounds]
        assert {worker.trainings for worker in fleet.trainings.values()} == {ROUNDS}

    return to_the_end


def harm(proxy: FaultyProxy, action: Action, *topics: str) -> Sequence[Rule]:
    """One harm on each topic, in either direction, after the first few of them."""
    proxy.rules += [Rule(way, action, topic, after=3, times=2) for topic in topics for way in ("broker", "client")]
    return proxy.rules


@pytest.mark.parametrize("victim", ["coordinator", "dev-1"])
@pytest.mark.parametrize("action", ["duplicate", "swap", "corrupt", "truncate", "garble", "cut", "delay"])
def test_packets_may_be_harmed(
    run: Run, broker: MosquittoBroker, proxy: FaultyProxy, action: Action, victim: str
) -> None:
    rules = harm(proxy, action, "/upload/", "/model/", "/repeat/")
    run({"": broker.url, victim: proxy.url})

    assert sum(rule.applied for rule in rules) >= 2


@pytest.mark.parametrize("action", ["duplicate", "swap", "truncate", "garble", "cut"])
def test_control_messages_may_be_harmed(run: Run, broker: MosquittoBroker, proxy: FaultyProxy, action: Action) -> None:
    for topic in ("/down/", "/up/", "/device/"):
        proxy.rules += [Rule(way, action, topic, after=1, times=1) for way in ("broker", "client")]
    run({"": broker.url, "dev-1": proxy.url})

    assert sum(rule.applied for rule in proxy.rules) >= 2


@pytest.mark.parametrize("victim", ["coordinator", "dev-1"])
def test_connections_may_be_cut_after_any_number_of_bytes(
    run: Run, broker: MosquittoBroker, proxy: FaultyProxy, victim: str
) -> None:
    proxy.cut_after += [("broker", n) for n in (100, 3_000, 60_001, 90_000)] + [("client", n) for n in (50, 40_000)]
    run({"": broker.url, victim: proxy.url})

    assert proxy.connections >= 4


def test_broker_may_be_killed_and_restarted_while_updates_are_on_their_way(run: Run) -> None:
    with MosquittoBroker(extra=SMALL_PACKETS) as broker, FaultyProxy(broker.host, broker.port) as proxy:

        def crash() -> None:
            broker.kill()
            broker.start()

        proxy.rules += [Rule("broker", "note", "/upload/", after=count, then=crash) for count in (10, 30)]
        run({"": proxy.url})

        assert [rule.applied for rule in proxy.rules] == [1, 1]


def test_network_may_be_gone_for_a_while(run: Run, broker: MosquittoBroker, proxy: FaultyProxy) -> None:
    def away() -> None:
        proxy.stop()
        threading.Timer(1.0, proxy.go).start()

    proxy.rules.append(Rule("broker", "note", "/upload/", after=8, then=away))
    run({"": proxy.url})

    assert proxy.rules[0].applied == 1
