"""Logins, access rules and TLS, on Mosquitto."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerError, ConfigError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.base import Connected, Delivered, LastWill, Refused
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.transport.clients import connected, password_entry

PASSWORD = "correct horse"  # the test's own
ACCESS_RULES = "user pi-1\ntopic readwrite fleet/#\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoBroker]:
    """A broker with one user, pi-1, who may use fleet/# and nothing else."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "passwords").write_text(password_entry("pi-1", PASSWORD))
    (directory / "rules").write_text(ACCESS_RULES)
    for file in directory.iterdir():
        file.chmod(0o600)
    extra = [f"password_file {directory / 'passwords'}", f"acl_file {directory / 'rules'}"]
    with MosquittoBroker(extra=extra, anonymous=False) as broker:
        yield broker


def with_login(broker: MosquittoBroker, username: str, password: str, **more: str) -> BrokerAddress:
    return BrokerSettings(url=broker.url, username=username, password=password, **more).address({})  # type: ignore[arg-type]


OF_AUTHORITY = ("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
"""What an authority must say of its key since Python 3.13."""


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority (ca), a server at 127.0.0.1, a client, and an authority that nobody knows (other)."""
    directory = tmp_path_factory.mktemp("certificates")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    (directory / "none").write_text("basicConstraints=CA:FALSE\n")
    elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(directory, "req", "-x509", *elliptic, *files, "-days", "2", "-subj", f"/CN=test {name}", *OF_AUTHORITY)
    for name, extensions in (("server", "san"), ("client", "none")):
        openssl(directory, "req", *elliptic, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions)
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem", "-days", "2")
    return directory


@pytest.fixture(scope="module")
def encrypted(certificates: Path) -> Iterator[MosquittoBroker]:
    lines = [f"certfile {certificates / 'server.pem'}", f"keyfile {certificates / 'server.key'}"]
    with MosquittoBroker(extra=lines) as broker:
        yield broker


@pytest.fixture(scope="module")
def mutual(certificates: Path) -> Iterator[MosquittoBroker]:
    lines = [
        f"certfile {certificates / 'server.pem'}",
        f"keyfile {certificates / 'server.key'}",
        f"cafile {certificates / 'ca.pem'}",
        "require_certificate true",
    ]
    with MosquittoBroker(extra=lines) as broker:
        yield broker


def refusal(address: BrokerAddress) -> str:
    with pytest.raises(BrokerError) as refused:
        MqttTransport(address, "refused").start(print)
    return str(refused.value)


def test_right_password_connects(guarded: MosquittoBroker) -> None:
    with connected(with_login(guarded, "pi-1", PASSWORD), "pi-1") as client:
        client.subscribe("fleet/x")


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "auto"])
def test_wrong_password_is_told_without_showing_it(guarded: MosquittoBroker, protocol: str) -> None:
    words = refusal(with_login(guarded, "pi-1", "guess", protocol=protocol))

    assert "refuses the login of user 'pi-1'" in words
    assert "guess" not in words


def test_missing_login_is_told_with_the_variables_to_set(guarded: MosquittoBroker) -> None:
    assert "set FEDLP_BROKER_USERNAME and FEDLP_BROKER_PASSWORD" in refusal(BrokerAddress.parse(guarded.url, {}))


def test_publish_against_the_access_rules_is_refused_and_others_pass(guarded: MosquittoBroker) -> None:
    with connected(with_login(guarded, "pi-1", PASSWORD), "pi-1-publish") as client:
        forbidden = client.transport.publish("elsewhere/x", b"1")
        allowed = client.transport.publish("fleet/x", b"2")

        refused = client.wait(Refused)
        assert (refused.topic, refused.token) == ("elsewhere/x", forbidden)
        assert client.wait(Delivered).token == allowed


def test_tls_with_the_right_authority_carries_large_messages(encrypted: MosquittoBroker, certificates: Path) -> None:
    settings = BrokerSettings(url=encrypted.url, ca=str(certificates / "ca.pem"))
    with connected(settings.address({}), "tls") as client:
        client.subscribe("x")
        for _ in range(5):
            client.transport.publish("x", bytes(1_000_000))
        assert client.payloads(5) == [bytes(1_000_000)] * 5


def test_tls_with_another_authority_is_refused(encrypted: MosquittoBroker, certificates: Path) -> None:
    settings = BrokerSettings(url=encrypted.url, ca=str(certificates / "other.pem"))

    assert "certificate of the broker" in refusal(settings.address({}))
    assert "an authority that is not known here" in refusal(BrokerSettings(url=encrypted.url).address({}))


def test_tls_against_a_plain_port_and_the_other_way_round_say_which_url_to_use(
    encrypted: MosquittoBroker, mosquitto: MosquittoBroker
) -> None:
    assert "use mqtt://" in refusal(BrokerAddress("127.0.0.1", mosquitto.port, tls=True))
    assert "use mqtts://" in refusal(BrokerAddress("127.0.0.1", encrypted.port))


def test_client_certificate_is_shown_where_the_broker_wants_one(mutual: MosquittoBroker, certificates: Path) -> None:
    trusted = {"url": mutual.url, "ca": str(certificates / "ca.pem")}
    shown = {"certificate": str(certificates / "client.pem"), "key": str(certificates / "client.key")}
    with connected(BrokerSettings(**trusted, **shown).address({}), "mutual") as client:  # type: ignore[arg-type]
        client.subscribe("x")

    assert "client certificate" in refusal(BrokerSettings(**trusted).address({}))  # type: ignore[arg-type]


def test_unusable_certificate_files_are_the_operators_to_mend(encrypted: MosquittoBroker, certificates: Path) -> None:
    no_pem = certificates / "san"
    pair = {"certificate": str(certificates / "client.pem"), "key": str(certificates / "server.key")}
    with pytest.raises(ConfigError, match="must be PEM"):
        BrokerSettings(url=encrypted.url, ca=str(no_pem)).address({}).ssl_context()
    with pytest.raises(ConfigError, match=r"client certificate .* is unusable: the key in .* is another one's"):
        BrokerSettings(url=encrypted.url, **pair).address({}).ssl_context()  # type: ignore[arg-type]


def test_a_password_that_was_changed_meanwhile_is_read_from_its_file(tmp_path: Path) -> None:
    secret, entries = tmp_path / "secret", tmp_path / "passwords"
    secret.write_text("one\n")
    entries.write_text(password_entry("pi-1", "one"))
    entries.chmod(0o600)
    with MosquittoBroker(extra=[f"password_file {entries}"], anonymous=False) as broker:
        settings = BrokerSettings(url=broker.url, username="pi-1", password_file=str(secret))
        with connected(settings.address({}), "rotated") as client:
            entries.write_text(password_entry("pi-1", "two"))
            broker.stop()
            broker.start()
            secret.write_text("two\n")
            client.wait(Connected)


def test_certificates_that_were_replaced_meanwhile_are_read_again(certificates: Path, tmp_path: Path) -> None:
    names = {"ca": "ca.pem", "cert": "server.pem", "key": "server.key"}
    for file, name in names.items():
        (tmp_path / file).write_bytes((certificates / name).read_bytes())
    lines = [f"certfile {tmp_path / 'cert'}", f"keyfile {tmp_path / 'key'}"]
    with MosquittoBroker(extra=lines) as broker:
        settings = BrokerSettings(url=broker.url, ca=str(tmp_path / "ca"))
        with connected(settings.address({}), "renewed") as client:
            san = ("-addext", "subjectAltName=IP:127.0.0.1", "-subj", "/CN=renewed", "-days", "2")
            keys = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key")
            openssl(tmp_path, "req", "-x509", *keys, "-out", "cert", *san, *OF_AUTHORITY)
            broker.stop()
            broker.start()
            (tmp_path / "ca").write_bytes((tmp_path / "cert").read_bytes())
            client.wait(Connected)


def test_broker_that_admits_other_client_ids_alone_is_told_which_ones_to_let_in() -> None:
    with MosquittoBroker(extra=["clientid_prefixes site-"]) as broker:
        assert "(clientid_prefixes, a policy), let in those that begin with fedlp-" in refusal(
            BrokerAddress.parse(broker.url, {})
        )
    with MosquittoBroker(extra=["clientid_prefixes fedlp-"]) as broker:
        MqttTransport(BrokerAddress.parse(broker.url, {}), new_client_id("fedlp", "shop", "pi")).start(print)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_broker_without_retained_messages_is_told_what_fleets_need(protocol: str) -> None:
    will = LastWill("t", b"gone")
    with MosquittoBroker(extra=["retain_available false"]) as broker:
        settings = BrokerSettings(url=broker.url, protocol=protocol)  # type: ignore[arg-type]
        with pytest.raises(BrokerError) as refused:
            MqttTransport(settings.address({}), "pi", will).start(print)
        if protocol == "auto":
            assert "keeps no retained messages (Mosquitto's retain_available), which fleets need" in str(refused.value)
