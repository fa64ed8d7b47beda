"""A transport that is started before its broker."""

from __future__ import annotations

import queue
import socket
import threading
import time
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.base import Connected, Delivered, Subscribed, TransportEvent
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.transport.authority import Authority
from tests.transport.clients import PATIENCE, password_entry


def test_broker_that_comes_later_finds_everything_that_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    events: queue.Queue[TransportEvent] = queue.Queue()
    transport = MqttTransport(BrokerAddress("127.0.0.1", port), "early", patient=True)
    transport.start(events.put)
    try:
        transport.subscribe("fedlp/f/down/early")
        token = transport.publish("fedlp/f/device/early", b"here")
        with MosquittoBroker(port=port):
            first, *rest = (events.get(timeout=PATIENCE) for _ in range(3))
    finally:
        transport.stop()
    assert isinstance(first, Subscribed)
    assert isinstance(rest[0], Connected)
    assert rest[1] == Delivered(token)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"no broker yet, waiting for it: nothing listens at mqtt://127.0.0.1:{port}; is the broker running, and is the "
        "port right?"
    ]


def test_certificate_that_is_not_valid_yet_waits_for_the_clock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, authority = free_port(), Authority(tmp_path)
    settings = BrokerSettings(url=f"mqtts://127.0.0.1:{port}", ca=str(authority.certificate))
    events: queue.Queue[TransportEvent] = queue.Queue()
    transport = MqttTransport(settings.address({}), "early", patient=True)
    try:
        with MosquittoBroker(port=port, extra=tls(authority.issue("later", first="20980101"))):
            transport.start(events.put)
        with MosquittoBroker(port=port, extra=tls(authority.issue("now"))):
            assert isinstance(events.get(timeout=PATIENCE), Connected)
    finally:
        transport.stop()
    # A connection that the first broker refuses may look at the certificate of the second, so another line may follow.
    told, *_ = [record.getMessage() for record in caplog.records if "certificate" in record.getMessage()]
    assert told.startswith("no broker yet, waiting for it: the certificate of the broker at ")
    assert "is valid from 2098-01-01 00:00 UTC on, and this machine's clock says 20" in told


def tls(certificate: tuple[Path, Path]) -> list[str]:
    return [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]


def test_stop_ends_the_waiting() -> None:
    transport = MqttTransport(BrokerAddress("127.0.0.1", free_port()), "early", patient=True)
    transport.start(print)
    began = time.monotonic()
    transport.stop()
    assert time.monotonic() - began < 2.0


def test_broker_that_refuses_the_login_is_not_waited_for(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(password_entry("pi-1", "right"))
    passwords.chmod(0o600)
    with MosquittoBroker(extra=[f"password_file {passwords}"], anonymous=False) as broker:
        address = BrokerAddress("127.0.0.1", broker.port, username="pi-1", password="wrong")
        transport = MqttTransport(address, "early", patient=True)
        with pytest.raises(BrokerError, match="refuses the login of user 'pi-1'"):
            transport.start(print)
        transport.stop()


@pytest.mark.parametrize("patient", [False, True])
def test_start_that_a_silent_name_server_holds_up_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    answered = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        answered.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    transport = MqttTransport(BrokerAddress("broker.example", 1883), "held-up", patient=patient)
    threading.Timer(0.1, transport.cancel_start).start()
    began = time.monotonic()
    transport.start(print)
    transport.stop()
    assert time.monotonic() - began < 3.0
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "mqtt-held-up":
            thread.join(PATIENCE)
