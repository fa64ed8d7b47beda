"""Single properties of a real broker; tests of ``fedlp doctor`` have the brokers that lack some."""

from __future__ import annotations

import pytest

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.diagnostics import measurements
from fedlp_edge.transport.diagnostics.measurements import MeasuredBroker


def test_limits_are_those_that_the_broker_announces(address: BrokerAddress) -> None:
    limits = measurements.announced_limits(address)
    assert (limits.protocol, limits.receive_maximum) == ("5", 20)


def test_software_is_what_the_broker_says_of_itself(measured: MeasuredBroker) -> None:
    assert measurements.software(measured).startswith("mosquitto version ")


def test_largest_packet_is_the_announced_one_where_it_arrives_both_ways(measured: MeasuredBroker) -> None:
    assert measurements.largest_packet(measured, announced=5000) == 5000


def test_largest_retained_payload_fits_into_the_largest_packet(
    measured: MeasuredBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "RETAINED_TRIED", (100, 2000, 9000))
    assert measurements.largest_retained(measured, packet=4000) == 2000
    with measured.client("coordinator") as reader:  # nothing is left behind
        reader.subscribe(measured.status)
        assert reader.next(0.05) is None


def test_last_will_is_published_and_forgotten(measured: MeasuredBroker) -> None:
    assert measurements.last_will_works(measured)


@pytest.mark.parametrize("sender", ["coordinator", "device"])
def test_topic_that_arrives_as_it_was_sent_is_not_renamed(measured: MeasuredBroker, sender: str) -> None:
    assert measurements.renamed(measured, sender, f"{measured.bulk}/{sender}") is None


def test_message_and_bytes_take_their_time(measured: MeasuredBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "PINGS", 3)
    monkeypatch.setattr(measurements, "THROUGHPUT_BYTES", 1 << 16)
    seconds = measurements.round_trip(measured)
    assert seconds is not None
    assert 0 < seconds < measurements.ARRIVAL_SECONDS
    assert measurements.throughput(measured, 1 << 12) > 0


def test_every_client_has_a_name_of_its_own() -> None:
    assert len({measurements.client_name() for _ in range(100)}) == 100
