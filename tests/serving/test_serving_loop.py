"""The loop of a serving process, in this process."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import BrokerError, OperatorError
from fedlp_edge.serving.serving_loop import serve_model
from fedlp_edge.serving.serving_options import ServingOptions
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.base import Received, TransportEvent
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.transport.mqtt.transport import MqttTransport
from tests.serving.model_file import write_model
from tests.transport.clients import password_entry


def test_reports_until_a_signal_and_needs_no_port(tmp_path: Path) -> None:
    options = ServingOptions(model=str(write_model(tmp_path / "model.onnx")), report_seconds=0.001)
    urls: list[str] = []
    reports: list[ServingReport] = []

    def reported(report: ServingReport) -> None:
        if not reports:
            os.kill(os.getpid(), signal.SIGTERM)
        reports.append(report)

    serve_model(options, urls.append, reported)
    assert urls == [""]
    assert reports[0].file == "model.onnx"


def test_a_port_that_is_taken_is_named_by_its_key(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ServingOptions(model=str(model), listen=("127.0.0.1", port), port_name="listen in [serve]")
        with pytest.raises(OperatorError, match="Address already in use; choose another listen in"):
            serve_model(options, print)


@pytest.mark.parametrize("host", ["203.0.113.9", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_said_to_be_none_of_this_one(tmp_path: Path, host: str) -> None:
    options = ServingOptions(model=str(write_model(tmp_path / "model.onnx")), listen=(host, 8080))
    with pytest.raises(OperatorError) as refused:
        serve_model(options, print)
    assert str(refused.value) == (
        f"cannot listen on {host}:8080: {host} is no address of this machine; 0.0.0.0 stands for all that it has, "
        "127.0.0.1 for itself alone"
    )


def test_a_port_of_root_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    options = ServingOptions(model=str(write_model(tmp_path / "model.onnx")), listen=("0.0.0.0", 80))
    with pytest.raises(OperatorError) as refused:
        serve_model(options, print)
    assert str(refused.value) == (
        "cannot listen on 0.0.0.0:80: Permission denied; choose another --port from 1024 on, as those below are "
        "for root"
    )


def _has_ipv6() -> bool:
    try:
        free_port("::1")
    except OSError:
        return False
    return True


def _listened_at() -> list[tuple[str, str]]:
    """Hosts to listen at and to ask: those of IPv6 where this machine has it, as many a container has not."""
    of_ipv6 = [("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")] if _has_ipv6() else []
    return [("localhost", "127.0.0.1"), *of_ipv6]


@pytest.mark.parametrize(("host", "asked"), _listened_at())
def test_answers_at_addresses_of_both_versions(tmp_path: Path, host: str, asked: str) -> None:
    options = ServingOptions(
        model=str(write_model(tmp_path / "model.onnx")), listen=(host, 0), report_seconds=0.5, threads=1
    )
    shown_host = f"[{host}]" if ":" in host else host
    urls: list[str] = []
    answers: list[int] = []

    def ask(report: ServingReport) -> None:
        del report
        shown = f"[{asked}]" if ":" in asked else asked
        with urllib.request.urlopen(f"{urls[0].replace(shown_host, shown)}/health", timeout=10) as answer:
            answers.append(answer.status)
        os.kill(os.getpid(), signal.SIGTERM)

    serve_model(options, urls.append, ask)
    assert urls[0].startswith(f"http://{shown_host}:")
    assert answers[0] == 200


def test_answers_over_http_while_the_broker_is_away(tmp_path: Path) -> None:
    options = ServingOptions(
        model=str(write_model(tmp_path / "model.onnx")),
        listen=("127.0.0.1", 0),
        broker=BrokerSettings(url=f"mqtt://127.0.0.1:{free_port()}"),
        topic="home/door",
        report_seconds=0.5,
    )
    urls: list[str] = []
    answers: list[int] = []

    def ask(report: ServingReport) -> None:
        del report
        with urllib.request.urlopen(f"{urls[0]}/health", timeout=10) as answer:
            answers.append(answer.status)
        if len(answers) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    serve_model(options, urls.append, ask)
    assert answers == [200, 200]


def test_answers_over_http_while_the_broker_refuses_the_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fedlp_edge.serving.serving_loop.LOGIN_SECONDS", 0.1)
    entries, secret = tmp_path / "entries", tmp_path / "secret"
    entries.write_text(password_entry("door", "new"))
    secret.write_text("old")
    for path in (entries, secret):
        path.chmod(0o600)
    statistics: list[bytes] = []
    urls: list[str] = []
    answers: list[int] = []

    def ask(report: ServingReport) -> None:
        del report
        with urllib.request.urlopen(f"{urls[0]}/health", timeout=10) as answer:
            answers.append(answer.status)
        if len(answers) == 3:
            secret.write_text("new")  # as the owner changes it where it was forgotten
        if statistics:
            os.kill(os.getpid(), signal.SIGTERM)

    def heard(event: TransportEvent) -> None:
        if isinstance(event, Received):
            statistics.append(event.payload)

    with MosquittoBroker(extra=[f"password_file {entries}"], anonymous=False) as broker:
        other = MqttTransport(BrokerAddress("127.0.0.1", broker.port, username="door", password="new"), "other")
        other.start(heard)
        other.subscribe("home/door/statistics")
        options = ServingOptions(
            model=str(write_model(tmp_path / "model.onnx")),
            listen=("127.0.0.1", 0),
            broker=BrokerSettings(url=broker.url, username="door", password_file=str(secret)),
            topic="home/door",
            report_seconds=0.2,
        )
        serve_model(options, urls.append, ask)
        other.stop()
    refused = [line for line in caplog.messages if "refuses the login" in line]
    assert len(refused) == 1
    assert refused[0].endswith("HTTP goes on, and the broker is asked again every 0 s")
    assert set(answers) == {200}


def test_without_http_a_refused_login_ends_it(tmp_path: Path) -> None:
    entries = tmp_path / "entries"
    entries.write_text(password_entry("door", "new"))
    entries.chmod(0o600)
    with MosquittoBroker(extra=[f"password_file {entries}"], anonymous=False) as broker:
        options = ServingOptions(
            model=str(write_model(tmp_path / "model.onnx")), broker=BrokerSettings(url=broker.url), topic="home/door"
        )
        with pytest.raises(BrokerError, match="login"):
            serve_model(options, print)
