from __future__ import annotations

import pytest

from fedlp_edge.errors import ConfigError
from fedlp_edge.transport.broker_url import BrokerUrl, masked, parse_broker_url, without_password


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("mqtt://broker.example", BrokerUrl("mqtt", "broker.example", 1883)),
        ("mqtts://pi@[fe80::aB%25Wlan0]:9", BrokerUrl("mqtts", "fe80::ab%Wlan0", 9, "pi")),
        ("mqtt://[fe80::1%bat0]", BrokerUrl("mqtt", "fe80::1%bat0", 1883)),
        ("mqtt://[fe80::1%2]:9", BrokerUrl("mqtt", "fe80::1%2", 9)),
        ("mqtt://p%40i:a%2Fb@broker/", BrokerUrl("mqtt", "broker", 1883, "p@i", "a/b")),
        ("mqtt://pi:@broker", BrokerUrl("mqtt", "broker", 1883, "pi", "")),
        ("ws://gateway", BrokerUrl("ws", "gateway", 80, path="/mqtt")),
        ("ws://gateway:9001/", BrokerUrl("ws", "gateway", 9001, path="/mqtt")),
        ("wss://gateway/ws?token=1", BrokerUrl("wss", "gateway", 443, path="/ws?token=1")),
        ("wss://gateway?token=1", BrokerUrl("wss", "gateway", 443, path="/?token=1")),
    ],
)
def test_url_is_read_with_the_defaults_of_its_scheme(url: str, read: BrokerUrl) -> None:
    assert parse_broker_url(url) == read
    assert read.tls == url.startswith(("mqtts:", "wss:"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("broker.example", "must begin with mqtt://"),
        ("broker.example:1883", "must begin with mqtt://"),
        ("http://broker.example", "must begin with mqtt://"),
        ("mqtt:broker", "must begin with mqtt://"),
        ("", "must begin with mqtt://"),
        ("mqtt://", "names no host"),
        ("mqtt://:1883", "names no host"),
        ("mqtt://broker:0", "port 0"),
        ("mqtt://broker:99999", "malformed; write mqtt://HOST:PORT with a port from 1 to 65535"),
        ("mqtt://broker:mqtt", "malformed; write mqtt://HOST:PORT with a port from 1 to 65535"),
        ("mqtt://one:1883,two:1883", "malformed; write one broker, mqtt://HOST:PORT"),
        ("mqtt://[::1", "malformed"),
        ("mqtt://fd00::1:1883", r"IPv6 addresses in brackets, mqtt://\[HOST\]:PORT"),
        ("mqtt://te#am@broker", "write %2F for /, %3F for [?] and %23 for #"),
        ("mqtt://te/am@broker", "write %2F for /, %3F for [?] and %23 for #"),
        ("mqtt://broker/topic", "something after the port"),
        ("mqtt://broker?x=1", "something after the port"),
        ("ws://broker/a b", "malformed path"),
        ("wss://broker/mqtt#x", "malformed path"),
    ],
)
def test_parse_refuses_what_is_no_broker_url(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_broker_url(url)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("192.168.1.10", "mqtt://192.168.1.10"),
        ("localhost:1883", "mqtt://localhost:1883"),
        ("mqtt:localhost", "mqtt://localhost"),
        ("tcp://broker:1883", "mqtt://broker:1883"),
        ("ssl://broker", "mqtts://broker"),
        ("http://homeassistant.local:8123/", "mqtt://homeassistant.local"),
    ],
)
def test_a_url_in_another_programs_manner_is_told_what_to_write(url: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_broker_url(url)
    assert str(refused.value).endswith(f"; write {meant}")


def test_blanks_around_a_url_are_none_of_it() -> None:
    address = parse_broker_url(" mqtt://pi.local:1884 \r\n")
    assert (address.host, address.port) == ("pi.local", 1884)


@pytest.mark.parametrize(
    ("url", "shown", "public"),
    [
        ("mqtt://pi:s3cret@broker", "mqtt://pi:***@broker", "mqtt://pi@broker"),
        ("wss://broker/mqtt?token=s3cret", "wss://broker/mqtt", "wss://broker/mqtt"),
        ("mqtt://pi:s3?cret@broker", "mqtt://pi***", "mqtt://pi***"),
        ("mqtt://broker", "mqtt://broker", "mqtt://broker"),
    ],
)
def test_url_is_shown_without_its_secrets(url: str, shown: str, public: str) -> None:
    assert masked(url) == shown
    assert without_password(url) == public
