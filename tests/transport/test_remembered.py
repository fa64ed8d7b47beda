"""Limits of brokers that the next process knows as well."""

from __future__ import annotations

import dataclasses
import logging
import queue
from pathlib import Path

import pytest

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import Connected, Delivered, Refused, TransportEvent
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.remembered import KEPT_SECONDS, RememberedLimits


def test_limit_is_known_to_the_next_process_for_that_broker_alone(tmp_path: Path) -> None:
    RememberedLimits(tmp_path).keep("broker", 1883, 50_000)
    later = RememberedLimits(tmp_path)
    assert later.packet("broker", 1883) == 50_000
    assert later.packet("broker", 8883) is None
    assert later.packet("other", 1883) is None


def test_limit_is_forgotten_after_a_month_or_by_a_measurement_without_one(tmp_path: Path) -> None:
    RememberedLimits(tmp_path, lambda: 1000.0).keep("broker", 1883, 50_000)
    assert RememberedLimits(tmp_path, lambda: 999.0 + KEPT_SECONDS).packet("broker", 1883) == 50_000
    assert RememberedLimits(tmp_path, lambda: 1000.0 + KEPT_SECONDS).packet("broker", 1883) is None
    now = RememberedLimits(tmp_path, lambda: 2000.0)
    now.keep("broker", 1883, None)
    assert now.packet("broker", 1883) is None


def test_next_process_knows_the_limit_at_which_a_broker_ended_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits, told = RememberedLimits(tmp_path), queue.SimpleQueue[TransportEvent]()
    with MosquittoBroker(extra=["message_size_limit 64000"]) as broker:
        first = MqttTransport(BrokerAddress.parse(broker.url, {}), "c", remembered=limits)
        first.start(told.put)
        first.publish("t", bytes(100_000))
        while not isinstance(told.get(timeout=60), Refused):
            pass
        assert limits.packet(broker.host, broker.port) is None  # length may not be the reason yet
        first.publish("t", bytes(40_000))
        while not isinstance(told.get(timeout=60), Delivered):
            pass
        first.stop()
        caplog.clear()
        second = MqttTransport(BrokerAddress.parse(broker.url, {}), "c", remembered=limits)
        second.start(told.put)
        second.stop()
    assert limits.packet(broker.host, broker.port) == 100_017 // 2
    events = [told.get() for _ in range(told.qsize())]
    (connected,) = [event for event in events if isinstance(event, Connected)]
    assert connected.limits.max_packet_bytes == 100_017 // 2
    lines = [record.getMessage() for record in caplog.records if "since an earlier run lost" in record.getMessage()]
    assert len(lines) == 1


def test_limit_that_people_have_set_is_not_overruled(tmp_path: Path) -> None:
    limits, told = RememberedLimits(tmp_path), queue.SimpleQueue[TransportEvent]()
    with MosquittoBroker() as broker:
        limits.keep(broker.host, broker.port, 50_000)
        address = dataclasses.replace(BrokerAddress.parse(broker.url, {}), max_packet_bytes=90_000)
        transport = MqttTransport(address, "c", remembered=limits)
        transport.start(told.put)
        transport.stop()
    event = told.get()
    assert isinstance(event, Connected)
    assert event.limits.max_packet_bytes == 90_000
