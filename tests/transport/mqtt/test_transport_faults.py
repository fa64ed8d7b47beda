"""What the transport does when a broker is missing, silent, or ends the connection: brokers played by the test."""

from __future__ import annotations

import dataclasses
import re
import socket
import threading
import time

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress, Protocol
from fedlp_edge.transport.base import Connected, Delivered, Disconnected, MessageArriving, Received, Refused, Subscribed
from fedlp_edge.transport.mqtt import certificates, transport
from fedlp_edge.transport.mqtt.transport import ARRIVING_SECONDS, MqttTransport
from tests.transport.clients import Client
from tests.transport.played import CONNACK_5, CONNACK_311, Wire, hang_up, played, stay_silent, together


@pytest.fixture(autouse=True)
def short_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has hung up is asked once more whether it speaks TLS, and these brokers do not even answer."""
    monkeypatch.setattr(certificates, "ASK_SECONDS", 0.1)


def test_what_was_not_acknowledged_is_sent_again_after_the_reconnect() -> None:
    publishes: list[bytes] = []

    def take_and_break(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        publishes.append(wire.read())

    def acknowledge(wire: Wire) -> None:
        take_and_break(wire)
        wire.send(b"\x40\x02" + publishes[-1][5:7])
        wire.read()

    with played(take_and_break, acknowledge, protocol="3.1.1") as address:
        client = Client(address, "again").start()
        token = client.transport.publish("t", b"hello")
        client.wait(Disconnected)
        assert client.wait(Delivered).token == token
        client.transport.stop()

    assert [packet[-5:] for packet in publishes] == [b"hello", b"hello"]


def test_keepalive_is_the_one_that_is_configured() -> None:
    hello: list[bytes] = []

    def listen(wire: Wire) -> None:
        hello.append(wire.read())
        wire.send(CONNACK_311)
        wire.read()

    with played(listen, protocol="3.1.1") as address:
        Client(dataclasses.replace(address, keepalive_seconds=300), "patient").start().transport.stop()

    assert hello[0][10:12] == (300).to_bytes(2, "big")


def test_reason_of_the_broker_reaches_the_event() -> None:
    def throw_out(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5 + b"\xe0\x01\x8e")
        wire.read()

    with played(throw_out) as address:
        client = Client(address, "twin").start()
        assert client.wait(Disconnected).reason == "the broker ended the connection: Session taken over"
        client.transport.stop()


@pytest.mark.parametrize(("protocol", "refusal", "welcome"), [
    ("5", b"\x20\x03\x00\x85\x00", CONNACK_5), ("3.1.1", b"\x20\x02\x00\x02", CONNACK_311),
])  # fmt: skip
def test_shorter_client_id_is_tried_where_a_broker_refuses_a_long_one(
    protocol: Protocol, refusal: bytes, welcome: bytes
) -> None:
    hellos: list[bytes] = []

    def refuse(wire: Wire) -> None:
        hellos.append(wire.read())
        wire.send(refusal)
        wire.read()

    def accept(wire: Wire) -> None:
        hellos.append(wire.read())
        wire.send(welcome)
        wire.read()

    with played(refuse, accept, protocol=protocol) as address:
        client = Client(address, "fleet-pi-1-0123456789abcdef0123").start()
        client.wait(Connected)
        client.transport.stop()

    assert hellos[0].endswith(b"\x00\x1ffleet-pi-1-0123456789abcdef0123")
    assert hellos[1].endswith(b"\x00\x17pi10123456789abcdef0123")


def test_client_id_that_is_refused_though_it_is_short_is_told() -> None:
    def refuse(wire: Wire) -> None:
        wire.read()
        wire.send(b"\x20\x02\x00\x02")
        wire.read()

    with (
        played(refuse, protocol="3.1.1") as address,
        pytest.raises(BrokerError, match="refuses the client id; its log"),
    ):
        Client(address, "pi1").start()


def test_pings_as_often_as_the_broker_wants_and_leaves_one_that_does_not_answer() -> None:
    pings: list[bytes] = []

    def want_a_sign_each_second(wire: Wire) -> None:
        wire.read()
        wire.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")
        pings.append(wire.read())
        wire.send(b"\xd0\x00")
        pings.append(wire.read())
        pings.append(wire.read())

    with played(want_a_sign_each_second) as address:
        client = Client(address, "alive").start()
        assert client.wait(Disconnected).reason == "the broker has gone silent"
        client.transport.stop()

    assert pings == [b"\xc0\x00", b"\xc0\x00", b""]


def test_says_that_a_long_message_is_coming_before_it_is_whole() -> None:
    message = b"\x30\x0c\x00\x01t" + bytes(9)

    def send_slowly(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        for byte in message:
            wire.send(bytes((byte,)))
            time.sleep(0.1)
        wire.read()

    with played(send_slowly) as address:
        client = Client(address, "patient").start()
        client.wait(Connected)
        words = [client.events.get(timeout=60)]
        while not isinstance(words[-1], Received):
            words.append(client.events.get(timeout=60))
        client.transport.stop()

    assert len(words) > 1
    assert set(words[:-1]) == {MessageArriving()}


def test_does_not_take_the_answers_to_pings_for_bytes_of_a_message() -> None:
    def answer_pings(wire: Wire) -> None:
        wire.read()
        wire.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # a sign of life each second
        for _ in range(2):
            wire.read()
            wire.send(b"\xd0\x00")
        time.sleep(ARRIVING_SECONDS)
        wire.send(b"\x30\x05\x00\x01t\x00x")
        wire.read()

    with played(answer_pings) as address:
        client = Client(address, "idle").start()
        client.wait(Connected)
        word = client.events.get(timeout=20)
        client.transport.stop()

    assert isinstance(word, Received)


def test_does_not_take_an_acknowledgement_for_bytes_of_a_message() -> None:
    def acknowledge_late(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        for _ in range(2):
            packet = wire.read()
            time.sleep(2 * ARRIVING_SECONDS)
            wire.send(b"\x40\x02" + packet[5:7])
        wire.read()

    with played(acknowledge_late) as address:
        client = Client(address, "late").start()
        client.wait(Connected)
        words = []
        for _ in range(2):
            client.transport.publish("t", b"hello")
            words.append(client.events.get(timeout=60))
        client.transport.stop()

    assert [type(word) for word in words] == [Delivered, Delivered]


def test_tells_the_broker_how_large_a_packet_may_be() -> None:
    hello: list[bytes] = []

    def listen(wire: Wire) -> None:
        hello.append(wire.read())
        wire.send(CONNACK_5)
        wire.read()

    with played(listen) as address:
        Client(address, "careful").start().transport.stop()

    assert b"\x27" + (16 << 20).to_bytes(4, "big") in hello[0]


def test_limits_are_those_that_the_broker_announces() -> None:
    def announce(wire: Wire) -> None:
        wire.read()
        properties = b"\x21\x00\x07" + b"\x27\x00\x01\x00\x00"  # receive maximum 7, packets of 64 KiB
        wire.send(b"\x20" + bytes((3 + len(properties),)) + b"\x00\x00" + bytes((len(properties),)) + properties)
        wire.read()

    with played(announce) as address:
        client = Client(address, "limits").start()
        limits = client.wait(Connected).limits
        client.transport.stop()

    assert (limits.protocol, limits.max_packet_bytes, limits.receive_maximum) == ("5", 65536, 7)


@pytest.mark.parametrize(
    ("properties", "words"), [(b"\x24\x00", "allows no QoS 1"), (b"\x25\x00", "keeps no retained messages")]
)
def test_broker_that_lacks_what_fleets_need_is_refused(properties: bytes, words: str) -> None:
    def announce(wire: Wire) -> None:
        wire.read()
        wire.send(b"\x20\x05\x00\x00\x02" + properties)

    with played(announce) as address, pytest.raises(BrokerError, match=words):
        MqttTransport(address, "lacking").start(print)


def test_puback_with_a_refusal_is_reported_and_not_counted_as_delivered() -> None:
    def refuse(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        for code in (b"\x97", b"\x10"):  # quota exceeded; taken, but nobody subscribes
            wire.send(b"\x40\x03" + wire.read()[5:7] + code)
        wire.read()

    with played(refuse) as address:
        client = Client(address, "quota").start()
        first, second = client.transport.publish("t", b"1"), client.transport.publish("t", b"2")
        assert client.wait(Refused) == Refused("t", "Quota exceeded", first)
        assert client.wait(Delivered).token == second
        client.transport.stop()


def test_subscription_that_is_refused_is_reported_and_does_not_keep_the_client_from_working() -> None:
    def refuse(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        subscribe = wire.read()
        wire.send(b"\x90\x05" + subscribe[2:4] + b"\x00\x87\x01")  # not authorised; granted
        stay_silent(wire)

    with played(refuse) as address:
        client = Client(address, "rules")
        client.transport.subscribe("secret")
        client.transport.subscribe("open")
        client.start()
        assert client.wait(Refused) == Refused("secret", "Not authorized", None)
        assert client.wait(Subscribed).topic == "open"
        client.wait(Connected)
        client.transport.stop()


def test_broker_that_hangs_up_on_mqtt_5_is_tried_with_311() -> None:
    versions: list[int] = []

    def only_311(wire: Wire) -> None:
        versions.append(wire.read()[8])
        wire.send(CONNACK_311)
        wire.read()

    def hang_up_on_5(wire: Wire) -> None:
        versions.append(wire.read()[8])

    with played(hang_up_on_5, hang_up_on_5, only_311) as address:
        client = Client(address, "old").start()
        assert client.wait(Connected).limits.protocol == "3.1.1"
        client.transport.stop()

    assert versions == [5, 5, 4]


def test_broker_of_mqtt_5_is_not_taken_for_an_older_one_because_the_first_connection_is_lost() -> None:
    def accept(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        wire.read()

    with played(hang_up, accept) as address:
        client = Client(address, "unlucky").start()
        assert client.wait(Connected).limits.protocol == "5"
        client.transport.stop()


def test_broker_that_an_older_one_has_replaced_is_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def end(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)

    def refuse_5(wire: Wire) -> None:
        wire.read()
        wire.send(b"\x20\x03\x00\x84\x00")

    def accept_311(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        stay_silent(wire)

    with played(end, refuse_5, accept_311) as address:
        client = Client(address, "loyal").start()
        met = [client.wait(Connected).limits.protocol for _ in range(2)]
        client.transport.stop()
    assert met == ["5", "3.1.1"]


def test_broker_that_has_become_silent_is_told_from_one_that_hangs_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlp_edge.transport.mqtt.connection.SILENT_SECONDS", 0.2)
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def welcome(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)

    def stay(wire: Wire) -> None:
        welcome(wire)
        stay_silent(wire)

    with played(welcome, stay_silent, hang_up, hang_up, stay) as address:
        client = Client(address, "loyal").start()
        for _ in range(2):
            client.wait(Connected)
        client.transport.stop()
    assert [record.getMessage().partition(address.url)[2] for record in caplog.records] == [
        " accepts connections but does not answer within 4 s; is this port MQTT, and without TLS?",
        " ended the connection before answering; is this port MQTT, and does the broker have room for another client "
        "(max_connections)?",
    ]


def test_connections_that_stall_are_followed_by_one_with_shorter_segments(caplog: pytest.LogCaptureFixture) -> None:
    segments: list[int] = []

    def stall(wire: Wire) -> None:
        segments.append(wire.longest_segment)
        wire.read()
        wire.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # the keep-alive is a second
        while wire.read():
            pass

    with played(stall, stall, stall) as address:
        client = Client(address, "behind-a-vpn").start()
        for _ in range(3):
            client.wait(Connected)
        client.transport.stop()

    assert segments[0] == segments[1] > 1200
    assert 1100 < segments[2] <= 1200
    assert [record.getMessage() for record in caplog.records] == [
        f"connections to {address.url} stand and then fall silent, as where a VPN, a tunnel or a modem on the way "
        "drops long packets without a word (MTU): from now on TCP segments have at most 1200 bytes. A lower MTU of "
        "this machine's interface spares the search"
    ]


def test_version_that_is_configured_is_the_only_one_tried() -> None:
    with played(hang_up, protocol="5") as address, pytest.raises(BrokerError, match="before answering"):
        MqttTransport(address, "strict").start(print)


def test_start_fails_clearly_where_nothing_listens_and_can_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport = MqttTransport(BrokerAddress("127.0.0.1", port), "nobody")
    for _ in range(2):
        with pytest.raises(BrokerError, match=f"nothing listens at mqtt://127.0.0.1:{port}"):
            transport.start(print)
    transport.stop()


def test_broker_that_never_answers_mqtt_5_is_tried_with_311(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.transport.mqtt.connection.PROBE_AFTER_SECONDS", 0.05)
    monkeypatch.setattr("fedlp_edge.transport.mqtt.connection.SILENT_SECONDS", 0.3)
    versions: list[int] = []

    def keep_still(wire: Wire) -> None:
        versions.append(wire.read()[8])
        stay_silent(wire)

    def only_311(wire: Wire) -> None:
        versions.append(wire.read()[8])
        wire.send(CONNACK_311)
        wire.read()

    # The connection in the middle asks with the smallest CONNECT of MQTT 5, which is not answered either.
    with together(keep_still, keep_still, only_311) as address:
        client = Client(address, "old").start()
        assert client.wait(Connected).limits.protocol == "3.1.1"
        client.transport.stop()

    assert versions == [5, 5, 4]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70])
def test_start_fails_clearly_for_an_unknown_host(host: str) -> None:
    with pytest.raises(BrokerError, match=r"host name .* is unknown"):
        MqttTransport(BrokerAddress(host, 1883), "nobody").start(print)


def test_start_fails_clearly_where_something_else_hangs_up() -> None:
    lives = (hang_up, hang_up, hang_up)
    with played(*lives) as address, pytest.raises(BrokerError, match="ended the connection before answering"):
        MqttTransport(address, "nobody").start(print)


def test_start_fails_clearly_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.transport.mqtt.connection.CONNECT_SECONDS", 0.2)
    with played(stay_silent) as address, pytest.raises(BrokerError, match="does not answer within"):
        MqttTransport(address, "nobody").start(print)


def test_stop_ends_a_start_that_waits_for_an_answer() -> None:
    with played(stay_silent, protocol="5") as address:
        transport = MqttTransport(address, "impatient")
        stopper = threading.Timer(0.05, transport.stop)
        stopper.start()
        with pytest.raises(BrokerError, match="stopped before the broker answered"):
            transport.start(print)
        stopper.join()


def test_start_fails_clearly_where_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.transport.mqtt.connection.CONNECT_SECONDS", 0.5)

    def web_server(wire: Wire) -> None:
        wire.read()
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with played(web_server, web_server) as address, pytest.raises(BrokerError, match="is this port MQTT"):
        MqttTransport(address, "nobody").start(print)


def test_messages_become_shorter_where_the_connection_ends_behind_long_ones(caplog: pytest.LogCaptureFixture) -> None:
    lengths: list[int] = []

    def carry_no_more_than_20_000(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        while packet := wire.read_long():
            lengths.append(len(packet))
            if len(packet) > 20_000:
                return

    lives = [carry_no_more_than_20_000] * 3
    with played(*lives, protocol="3.1.1") as address:
        client = Client(address, "long").start()
        client.wait(Connected)
        token = client.transport.publish("fedlp/f/model/L1", bytes(30_000))
        client.wait(Disconnected)
        client.wait(Disconnected)
        assert client.wait(Connected).limits.max_packet_bytes == 15_016
        refused = client.wait(Refused)
        client.transport.stop()

    assert (refused.token, refused.too_long) == (token, True)
    assert lengths == [30_024, 30_024, 2]  # and a goodbye
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "behind a message of 30032 bytes on fedlp/f/model/L1" in line
    assert "max_packet_bytes" in line


def test_topic_behind_which_every_connection_ends_is_named_and_leaves_no_limit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RabbitMQ ends the connection where a topic is forbidden, as others do where a message is too long.
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def end_behind_a_message(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        wire.read_long()

    def stay(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        stay_silent(wire)

    with played(*[end_behind_a_message] * 6, stay, protocol="3.1.1") as address:
        client = Client(address, "barred").start()
        for size in (30_000, 10_000, 4_900):
            client.transport.publish("fedlp/f/upload/a", bytes(size))
            client.wait(Refused)
        client.transport.publish("fedlp/f/upload/a", bytes(4_000))
        client.wait(Disconnected)
        client.wait(Disconnected)
        assert client.wait(Connected).limits.max_packet_bytes is None
        client.transport.stop()

    lines = [record.getMessage() for record in caplog.records if "behind" in record.getMessage()]
    assert [re.sub(".* behind", "behind", line).partition(",")[0] for line in lines] == [
        "behind a message of 30032 bytes on fedlp/f/upload/a; from here on none is longer than 15016. A limit that it "
        "does not announce belongs into [broker] as max_packet_bytes (fedlp doctor broker finds it)",
        "behind a message of 10032 bytes on fedlp/f/upload/a; from here on none is longer than 5016. A limit that it "
        "does not announce belongs into [broker] as max_packet_bytes (fedlp doctor broker finds it)",
        "behind a message of 4932 bytes on fedlp/f/upload/a; from here on none is longer than 4096. A limit that it "
        "does not announce belongs into [broker] as max_packet_bytes (fedlp doctor broker finds it)",
        "behind messages on fedlp/f/upload/a",
    ]


def test_a_broker_that_is_away_gets_a_line_for_each_reason_and_not_for_each_attempt(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def welcome(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)

    with played(welcome) as address:
        client = Client(address, "patient").start()
    time.sleep(0.6)  # a dozen attempts
    client.transport.stop()
    assert [record.message.partition(";")[0] for record in caplog.records if "still no" in record.message] == [
        f"still no broker: nothing listens at {address.url}"
    ]


def test_connections_that_never_last_are_explained_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Mosquitto with use_username_as_clientid, and one login for several clients: each throws the others off.
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def throw_off(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)

    with played(*[throw_off] * 9) as address, caplog.at_level("INFO"):
        client = Client(address, "one-of-many").start()
        ends = [client.wait(Disconnected) for _ in range(9)]
        client.transport.stop()
    # The six that led to the explanation are told, and then one a minute, an hour in the end.
    assert [end.repeated for end in ends] == [False] * 6 + [True] * 3
    assert [record.message for record in caplog.records] == [
        f"the last 5 connections to {address.url} ended within seconds, without a word of the broker; its log says why,"
        " and fedlp doctor broker may. One cause is access rules that forbid a topic, for which RabbitMQ, AWS and "
        "others end the connection. Another is a broker that takes the user name for the client's id (Mosquitto's "
        "use_username_as_clientid): then each device and the coordinator need a login of their own. A third is one "
        "that takes no message of a few kB (message_size_limit), which fleets need"
    ]


def test_what_the_broker_ends_connections_for_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RabbitMQ and others, where the access rules forbid a topic.
    monkeypatch.setattr(transport, "LAST_RETRY_SECONDS", 0.05)

    def forbid(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_311)
        wire.read()

    for name, act in (("subscribe", "down/a"), ("publish", "up/a")):
        with played(*[forbid] * 6, protocol="3.1.1") as address:
            client = Client(address, "barred")
            getattr(client.transport, name)(f"fedlp/f/{act}", *([b"ready"] if name == "publish" else []))
            client.start()
            for _ in range(6):
                client.wait(Disconnected)
            client.transport.stop()
    lines = [record.getMessage() for record in caplog.records if "ended within seconds" in record.getMessage()]
    assert [line.partition(" It left ")[2].partition(".")[0] for line in lines] == [
        "the subscription to fedlp/f/down/a unanswered",
        "the message on fedlp/f/up/a unanswered",
    ]


@pytest.mark.parametrize(("protocol", "connack", "end"), [("5", CONNACK_5, b"\x00"), ("3.1.1", CONNACK_311, b"")])
def test_subscription_that_is_granted_at_qos_0_is_named_once(
    protocol: Protocol, connack: bytes, end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def grant_less(wire: Wire) -> None:
        wire.read()
        wire.send(connack)
        for codes in (b"\x01\x00", b"\x00"):
            number = wire.read()[2:4]
            wire.send(bytes((0x90, 2 + len(end) + len(codes))) + number + end + codes)
        wire.read()

    with played(grant_less, protocol=protocol) as address:
        client = Client(address, "less")
        client.transport.subscribe("well")
        client.transport.subscribe("less")
        client.start().wait(Connected)
        client.subscribe("less/again")
        client.transport.stop()
    (line,) = [record.getMessage() for record in caplog.records if "QoS" in record.getMessage()]
    assert line.startswith(f"the broker at {address.url} grants QoS 0 for less, where QoS 1 was requested")
    assert "max_qos of a Mosquitto listener" in line
