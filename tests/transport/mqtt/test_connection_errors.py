from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerAwayError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.transport.mqtt.connection_errors import (
    closed_early,
    known_limit,
    login_refused,
    silent,
    too_long,
    unreachable,
)
from fedlp_edge.transport.mqtt.websocket import WebSocketRefusedError

PLAIN = BrokerAddress.parse("mqtt://b", {})
TLS = BrokerAddress.parse("mqtts://b", {})
WEB = BrokerAddress.parse("wss://b", {})


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            PLAIN,
            socket.gaierror(-2, "unknown"),
            "the broker's host name 'b' is unknown; check the URL mqtt://b:1883",
        ),
        (
            BrokerAddress.parse("mqtt://pi.local", {}),
            socket.gaierror(-2, "unknown"),
            "the broker's host name 'pi.local' is unknown; check the URL mqtt://pi.local:1883 (names in .local need "
            "Avahi and libnss-mdns on this machine, and containers lack them: an IP address works)",
        ),
        (
            PLAIN,
            socket.gaierror(socket.EAI_AGAIN, "again"),
            "no name server answers for the broker's host 'b'; is this machine's network up?",
        ),
        (
            PLAIN,
            ConnectionRefusedError(111, "refused"),
            "nothing listens at mqtt://b:1883; is the broker running, and is the port right?",
        ),
        (
            PLAIN,
            TimeoutError(),
            "mqtt://b:1883 does not answer; check the host, the port and any firewall between",
        ),
        (PLAIN, OSError("no route"), "cannot connect to the broker at mqtt://b:1883: no route"),
        (
            TLS,
            ssl.SSLEOFError(8, "eof"),
            "the port of mqtts://b:8883 does not speak TLS; use mqtt://, or the port that does",
        ),
        (
            TLS,
            ssl.SSLError("bad curve"),
            "TLS with the broker at mqtts://b:8883 failed (('bad curve',)); see the broker's log for the reason",
        ),
        (
            WEB,
            WebSocketRefusedError("HTTP/1.1 502 Bad Gateway"),
            "wss://b:443/mqtt answers 'HTTP/1.1 502 Bad Gateway': the proxy there does not reach the broker",
        ),
        (
            WEB,
            WebSocketRefusedError("HTTP/1.1 404 Not Found"),
            "wss://b:443/mqtt answers 'HTTP/1.1 404 Not Found' where a WebSocket for MQTT was asked for; check port "
            "and path (many brokers have /mqtt), or use mqtts:// if this port has no WebSockets",
        ),
    ],
)
def test_failed_connection_is_explained(address: BrokerAddress, error: OSError, message: str) -> None:
    assert str(unreachable(address, error)) == message


def test_address_of_a_link_is_told_to_name_the_link() -> None:
    address, error = BrokerAddress.parse("mqtt://[fe80::1]", {}), OSError(errno.EINVAL, "Invalid argument")
    assert str(unreachable(address, error)) == (
        "an address such as fe80::1 needs the interface that leads there: [fe80::1%eth0]"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        socket.gaierror(socket.EAI_AGAIN, "again"),
        socket.gaierror(-2, "unknown"),
        OSError(errno.ENETUNREACH, "unreachable"),
        OSError(errno.EHOSTUNREACH, "no route"),
        WebSocketRefusedError("HTTP/1.1 502 Bad Gateway"),
    ],
)
def test_broker_that_is_not_up_yet_is_away(error: OSError) -> None:
    assert isinstance(unreachable(WEB, error), BrokerAwayError)


@pytest.mark.parametrize(
    "error",
    [
        UnicodeError("no name"),
        ConnectionResetError(104, "reset"),
        ssl.SSLEOFError(8, "eof"),
        ssl.SSLError("bad curve"),
        WebSocketRefusedError("HTTP/1.1 404 Not Found"),
        WebSocketRefusedError("nothing"),
    ],
)
def test_broker_that_is_another_than_was_meant_is_not_away(error: OSError) -> None:
    assert not isinstance(unreachable(WEB, error), BrokerAwayError)


@pytest.mark.parametrize(("code", "away"), [(0x88, True), (0x89, True), (0x86, False), (0x8A, False)])
def test_broker_that_says_to_come_again_is_away(code: int, away: bool) -> None:
    assert isinstance(login_refused(PLAIN, code, "a reason"), BrokerAwayError) == away


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        (
            "mqtt://b",
            0x87,
            "the broker at mqtt://b:1883 wants a login; set FEDLP_BROKER_USERNAME and FEDLP_BROKER_PASSWORD; where it "
            "admits certain client ids alone (clientid_prefixes, a policy), let in those that begin with fedlp-",
        ),
        (
            "mqtt://b",
            0x9A,
            "the broker at mqtt://b:1883 keeps no retained messages (Mosquitto's retain_available), which fleets need",
        ),
        ("mqtt://b", 0x9B, "the broker at mqtt://b:1883 allows no QoS 1 (Mosquitto's max_qos), which fleets need"),
        (
            "mqtt://pi@b",
            0x86,
            "the broker at mqtt://b:1883 refuses the login of user 'pi'; check the user name, the password and the "
            "broker's access rules (there is no password: set FEDLP_BROKER_PASSWORD or FEDLP_BROKER_PASSWORD_FILE)",
        ),
        ("mqtt://b", 0x84, "the broker at mqtt://b:1883 speaks neither MQTT 5 nor 3.1.1"),
        ("mqtt://b", 0x97, "the broker at mqtt://b:1883 refuses the connection: Quota exceeded"),
    ],
)
def test_refused_login_is_explained(url: str, code: int, message: str) -> None:
    assert str(login_refused(BrokerAddress.parse(url, {}), code, "Quota exceeded")) == message


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("good", "access rules"),
        ('"quoted"', "a quote, as files for --env-file keep them: leave them out)"),
        ("'quoted'", "a quote, as files for --env-file keep them: leave them out)"),
        ("trailing ", "the password begins or ends with a blank)"),
    ],
)
def test_odd_password_that_is_refused_is_told_without_showing_it(password: str, words: str) -> None:
    address = BrokerSettings(url="mqtt://b", username="pi", password=password).address({})
    told = str(login_refused(address, 0x86, "x"))
    assert told.endswith(words)
    assert password.strip("\"' ") not in told


def test_silence_is_explained() -> None:
    told = "b:1883 accepts connections but does not answer within 10 s; is this port MQTT, and without TLS?"
    assert str(silent(PLAIN, 10.0)) == f"mqtt://{told}"
    assert str(silent(TLS, 10.0)).endswith("is this port MQTT?")


def test_early_end_is_explained() -> None:
    assert "FEDLP_BROKER_CERT and FEDLP_BROKER_KEY" in str(closed_early(TLS))
    shown = str(closed_early(replace(TLS, certificate=Path("cam.pem"), key=Path("cam.key"))))
    assert (
        "refuses the client certificate cam.pem: is it of an authority that the broker knows, and not expired" in shown
    )
    url = f"mqtt://127.0.0.1:{free_port()}"
    assert str(closed_early(BrokerAddress.parse(url, {}))) == (
        f"the broker at {url} ended the connection before answering; is this port MQTT, and does the broker have room "
        "for another client (max_connections)?"
    )


def test_packet_limits_name_the_new_limit_and_the_setting() -> None:
    text = too_long(PLAIN, "fedlp/model/L1", 3000, 1500)
    assert "a message of 3000 bytes on fedlp/model/L1; from here on none is longer than 1500" in text
    assert "[broker] as max_packet_bytes" in text
    assert known_limit(PLAIN, 1500).startswith("messages to mqtt://b:1883 have 1500 bytes at most")


def test_broker_without_the_configured_version_is_explained() -> None:
    address = BrokerSettings(url="mqtt://b", protocol="5").address({})

    assert str(login_refused(address, 0x84, "")) == (
        "the broker at mqtt://b:1883 does not speak MQTT 5; leave protocol at auto"
    )
