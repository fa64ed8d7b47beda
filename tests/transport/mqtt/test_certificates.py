"""Certificates as people make them: each fault has its own line, with its own remedy."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.certificates import speaks_tls
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.transport.authority import COMPLETE, Authority
from tests.transport.clients import connected


def lines(certificate: tuple[Path, Path]) -> list[str]:
    return [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]


def refusal(address: BrokerAddress) -> str:
    with pytest.raises(BrokerError) as refused:
        MqttTransport(address, "refused").start(print)
    text = str(refused.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"names": "DNS:broker.example,IP:192.0.2.7"},
            "is not made for 127.0.0.1: it is made for broker.example, 192.0.2.7; use one of those in the URL",
        ),
        ({"names": ""}, "is not made for 127.0.0.1: it has no subjectAltName at all; make one with that name"),
        (
            {"first": "20200101", "last": "20200201"},
            "expired at 2020-02-01 00:00 UTC, and this machine's clock says 20",
        ),
        ({"first": "20980101"}, "is valid from 2098-01-01 00:00 UTC on, and this machine's clock says 20"),
    ],
    ids=["another name", "no name", "expired", "not yet valid"],
)
def test_fault_of_a_certificate_is_named_with_what_to_do(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    authority = Authority(tmp_path)
    with MosquittoBroker(extra=lines(authority.issue("broker", **changes))) as broker:
        assert words in refusal(BrokerSettings(url=broker.url, ca=str(authority.certificate)).address({}))


def test_unknown_authority_is_told_from_the_others(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with MosquittoBroker(extra=lines(authority.issue("broker"))) as broker:
        without = refusal(BrokerSettings(url=broker.url).address({}))
        wrong = refusal(BrokerSettings(url=broker.url, ca=str(other.certificate)).address({}))

    assert "give its PEM file as ca" in without
    assert f"{other.certificate} is not the file of the authority that signed it" in wrong
    for text in (without, wrong):
        assert "signed by an authority that is not known here, 'own authority' (" in text
        assert "the broker has to send its certificate as well" in text


def test_certificate_of_the_broker_itself_may_be_given_as_ca(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("broker")
    with MosquittoBroker(extra=lines((certificate, key))) as broker:
        settings = BrokerSettings(url=broker.url, ca=str(certificate))
        with connected(settings.address({}), "pinned") as client:
            client.subscribe("x")


@pytest.mark.parametrize(
    "extensions",
    [("basicConstraints=critical,CA:TRUE",), (COMPLETE[0], COMPLETE[2])],
    ids=["constraints alone", "no key usage"],
)
def test_authority_that_newer_pythons_refuse_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extensions: tuple[str, ...]
) -> None:
    make = ssl.create_default_context

    def strict(cafile: str | None = None) -> ssl.SSLContext:
        context = make(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    authority = Authority(tmp_path, extensions)
    with MosquittoBroker(extra=lines(authority.issue("broker"))) as broker:
        text = refusal(BrokerSettings(url=broker.url, ca=str(authority.certificate)).address({}))

    assert "lacks what Python asks for from 3.13 on" in text
    assert "make both anew with basicConstraints, keyUsage and key identifiers" in text


def test_complete_authority_is_taken_by_strict_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = ssl.create_default_context

    def strict(cafile: str | None = None) -> ssl.SSLContext:
        context = make(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    authority = Authority(tmp_path)
    with MosquittoBroker(extra=lines(authority.issue("broker"))) as broker:
        settings = BrokerSettings(url=broker.url, ca=str(authority.certificate))
        with connected(settings.address({}), "strict") as client:
            client.subscribe("x")


def test_port_that_answers_a_handshake_speaks_tls(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    plain = BrokerAddress("127.0.0.1", mosquitto.port)
    assert not speaks_tls(plain)
    with MosquittoBroker(extra=lines(Authority(tmp_path).issue("broker"))) as broker:
        assert speaks_tls(BrokerAddress("127.0.0.1", broker.port))
        taken = broker.port
    assert not speaks_tls(BrokerAddress("127.0.0.1", taken))
