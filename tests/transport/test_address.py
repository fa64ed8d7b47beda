from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.errors import ConfigError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "shown"),
    [
        ("mqtt://broker.example", "broker.example", 1883, False, "mqtt://broker.example:1883"),
        ("mqtts://broker.example/", "broker.example", 8883, True, "mqtts://broker.example:8883"),
        ("mqtt://10.0.0.7:2883", "10.0.0.7", 2883, False, "mqtt://10.0.0.7:2883"),
        ("mqtt://[::1]:1884", "::1", 1884, False, "mqtt://[::1]:1884"),
        ("mqtt://pi@gateway", "gateway", 1883, False, "mqtt://gateway:1883"),
        ("mqtt://[fe80::1%25eth0]", "fe80::1%eth0", 1883, False, "mqtt://[fe80::1%25eth0]:1883"),
        ("mqtts://[fe80::aB%25Wlan0]:9", "fe80::ab%Wlan0", 9, True, "mqtts://[fe80::ab%25Wlan0]:9"),
        ("ws://gateway", "gateway", 80, False, "ws://gateway:80/mqtt"),
        ("ws://gateway:9001/", "gateway", 9001, False, "ws://gateway:9001/mqtt"),
        ("wss://broker.example/ws/mqtt", "broker.example", 443, True, "wss://broker.example:443/ws/mqtt"),
        ("wss://broker.example/?token=1", "broker.example", 443, True, "wss://broker.example:443/"),
    ],
)
def test_parse_reads_urls(url: str, host: str, port: int, tls: bool, shown: str) -> None:
    address = BrokerAddress.parse(url, {})

    assert (address.host, address.port, address.tls, address.url) == (host, port, tls, shown)


@pytest.mark.parametrize(
    "url",
    ["mqtt://pi:s3cret@broker", "mqtt://pi:s3/cret@broker", "mqtt://pi:s3?cret@broker", "http://pi:s3cret@broker"],
)
def test_parse_refuses_a_password_in_a_url_and_never_shows_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerAddress.parse(url, {})

    assert "s3" not in str(refused.value)


def test_password_in_a_url_is_allowed_in_a_configuration_file() -> None:
    settings = BrokerSettings(url="mqtt://pi:a%40b%2Fc@broker")
    address = settings.address({})

    assert (address.username, address.password) == ("pi", "a@b/c")
    assert "a%40b" not in repr(settings)
    assert "a@b" not in repr(address)


def test_environment_fills_in_what_is_not_given(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca", "cert", "key")}
    for file in files.values():
        file.touch()
    environ = {
        "FEDLP_BROKER_USERNAME": "pi",
        "FEDLP_BROKER_PASSWORD": "secret",
        "FEDLP_BROKER_CA": str(files["ca"]),
        "FEDLP_BROKER_CERT": str(files["cert"]),
        "FEDLP_BROKER_KEY": str(files["key"]),
    }
    address = BrokerAddress.parse("mqtts://broker", environ)

    assert (address.username, address.password) == ("pi", "secret")
    assert (address.ca, address.certificate, address.key) == (files["ca"], files["cert"], files["key"])


def test_what_is_given_explicitly_wins_over_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file\nsecond line\n")
    environ = {"FEDLP_BROKER_USERNAME": "other", "FEDLP_BROKER_PASSWORD": "other"}
    address = BrokerSettings(username="pi", password_file=str(secret)).address(environ)

    assert (address.username, address.password) == ("pi", "from the file")


def test_password_file_may_come_from_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\ufeffhidden\r\n")  # as Notepad writes it
    environ = {"FEDLP_BROKER_USERNAME": "pi", "FEDLP_BROKER_PASSWORD_FILE": str(secret)}

    assert BrokerAddress.parse("mqtt://broker", environ).password == "hidden"


def test_a_credential_of_systemd_is_the_password_where_nothing_else_names_one(tmp_path: Path) -> None:
    environ = {"FEDLP_BROKER_USERNAME": "pi", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert BrokerAddress.parse("mqtt://broker", environ).password is None

    (tmp_path / "broker-password").write_text("handed over\n")
    found = BrokerAddress.parse("mqtt://broker", environ)
    assert (found.password, found.password_file) == ("handed over", tmp_path / "broker-password")

    (tmp_path / "broker-password").write_text("renewed\n")
    assert found.renewed().password == "renewed"
    assert BrokerAddress.parse("mqtt://broker", {**environ, "FEDLP_BROKER_PASSWORD": "other"}).password == "other"


def test_a_password_file_that_a_service_may_not_read_is_told_where_a_credential_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "broker-password").write_text("handed over\n")
    settings = BrokerSettings(username="pi", password_file=str(tmp_path / "of-root"))
    with pytest.raises(
        ConfigError, match=r"of-root cannot be read, .* credential broker-password: leave password_file"
    ):
        settings.address({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    (tmp_path / "of-root").write_text("its own\n")
    assert settings.address({"CREDENTIALS_DIRECTORY": str(tmp_path)}).password == "its own"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (BrokerSettings(password="x"), "no user name"),
        (BrokerSettings(username="pi", password_file="/no/such/file"), "password file /no/such/file cannot be read"),
        (BrokerSettings(username="pi", password_file="/dev/null"), "empty first line"),
        (BrokerSettings(url="mqtts://broker", ca="/no/such/file"), "CA file /no/such/file does not exist"),
        (BrokerSettings(url="mqtts://broker", ca="/"), "CA file / is a folder; name the PEM file in it"),
        (BrokerSettings(url="mqtts://broker", certificate=__file__), "go together"),
        (BrokerSettings(ca=__file__), "not encrypted; use mqtts://"),
    ],
)
def test_pieces_that_do_not_go_together_are_refused(settings: BrokerSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings.address({})


def test_settings_know_their_keys() -> None:
    with pytest.raises(msgspec.ValidationError, match="passwort"):
        msgspec.convert({"passwort": "x"}, BrokerSettings)
    with pytest.raises(msgspec.ValidationError, match="max_packet_bytes"):
        msgspec.convert({"max_packet_bytes": 10}, BrokerSettings)


@pytest.mark.parametrize(
    ("url", "authority", "name"),
    [
        ("ws://gateway:8080/mqtt", "gateway:8080", "gateway"),
        ("wss://gateway/mqtt", "gateway", "gateway"),
        ("ws://[fe80::1%25eth0]:9001/mqtt", "[fe80::1]:9001", "fe80::1"),
    ],
)
def test_host_header_and_certified_name_leave_out_what_is_local(url: str, authority: str, name: str) -> None:
    address = BrokerAddress.parse(url, {})

    assert (address.authority, address.certified_name) == (authority, name)


def test_query_of_a_websocket_is_sent_and_never_shown() -> None:
    address = BrokerAddress.parse("wss://broker/mqtt?token=s3cret", {})

    assert address.path == "/mqtt?token=s3cret"
    assert "s3cret" not in address.url
    assert "s3cret" not in repr(BrokerSettings(url="wss://broker/mqtt?token=s3cret"))


def test_keepalive_has_a_usual_length_and_can_be_set() -> None:
    assert BrokerAddress.parse("mqtt://broker", {}).keepalive_seconds == 30
    assert BrokerSettings(url="mqtt://broker", keepalive_seconds=240).address({}).keepalive_seconds == 240


def test_a_login_in_a_variable_that_nothing_reads_is_refused_with_the_one_that_is_meant() -> None:
    with pytest.raises(ConfigError, match="FEDLP_BROKER_USER is not read; its name is FEDLP_BROKER_USERNAME"):
        BrokerAddress.parse("mqtt://broker", {"FEDLP_BROKER_USER": "pi"})
    both = {"FEDLP_BROKER_USER": "old", "FEDLP_BROKER_USERNAME": "pi"}
    assert BrokerAddress.parse("mqtt://broker", both).username == "pi"


def test_url_may_come_from_the_environment_and_what_is_given_wins() -> None:
    environ = {"FEDLP_BROKER_URL": "mqtt://pi:a%40b@broker"}
    address = BrokerSettings().address(environ)
    assert (address.host, address.username, address.password) == ("broker", "pi", "a@b")
    assert BrokerSettings(url="mqtt://other").address(environ).host == "other"


def test_variables_of_a_file_with_quotes_or_line_ends_of_windows_are_read_as_they_were_meant(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"s3cret \r\n")
    environ = {
        "FEDLP_BROKER_URL": '"mqtt://broker:1884"\r',
        "FEDLP_BROKER_USERNAME": "pi\r",
        "FEDLP_BROKER_PASSWORD_FILE": f"{tmp_path / 'password'}\r",
        "FEDLP_BROKER_PRESET": "'generic'\r",
    }
    address = BrokerSettings().address(environ)
    assert (address.port, address.username, address.password) == (1884, "pi", "s3cret ")
    secret = {"FEDLP_BROKER_USERNAME": "pi", "FEDLP_BROKER_PASSWORD": '"s3cret" \r\n'}
    assert BrokerSettings().address(secret).password == '"s3cret" '


def test_a_password_file_that_was_saved_as_utf_16_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "password"
    settings = BrokerSettings(username="pi", password_file=str(path))
    path.write_bytes("s3cret\r\n".encode("utf-16"))  # as PowerShell does with >
    with pytest.raises(ConfigError, match=r"password file .*password was saved as UTF-16; save it as UTF-8$"):
        settings.address({})
    path.write_bytes("schlüssel\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"password file .*password is no UTF-8 text; save it as UTF-8$"):
        settings.address({})
