"""``fedlp doctor broker`` on brokers as they are: restricted, embedded, absent, locked, and with access rules."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedlp_edge.cli.doctor.broker_check import Report, Target, examine, resolve_target, run_doctor
from fedlp_edge.cli.doctor.findings import Finding
from fedlp_edge.errors import ConfigError
from fedlp_edge.transport.address import BrokerSettings, Protocol
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.brokers.ports import free_port
from fedlp_edge.transport.diagnostics import measurements
from tests.fleets.proxy import FaultyProxy
from tests.transport.clients import password_entry

ROOT = Path(__file__).parents[3]
Doctor = Callable[..., Report]


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"FEDLP_BROKER_{name}", raising=False)


def look(url: str) -> dict[str, Finding]:
    """The findings by check."""
    return {finding.check: finding for finding in examine(resolve_target(url, None, None, None, None)).findings}


def test_measures_the_limits_of_a_restricted_broker_and_says_what_to_set() -> None:
    with MosquittoBroker(extra=["max_packet_size 100000", "max_queued_messages 50"]) as broker:
        report = examine(resolve_target(broker.url, None, None, None, None))
    found = {finding.check: finding for finding in report.findings}

    assert report.fit
    assert report.measured.protocol == "5"
    assert report.measured.packet == 100_000
    queue = report.measured.queue
    assert queue in (50, 70)  # Mosquitto from 2.1 on does not count those in flight
    assert report.measured.in_flight == 20
    assert report.measured.last_will
    assert report.keys == (f"max_queued_messages = {queue}",)
    assert found["queue"].level == found["largest packet"].level == "warning"
    assert "set max_queued_messages in mosquitto.conf to 1000" in found["queue"].advice
    assert "max_packet_size in mosquitto.conf" in found["largest packet"].advice


def test_finds_a_packet_limit_that_is_not_announced() -> None:
    with MosquittoBroker(extra=["max_packet_size 100000"]) as broker:
        settings = BrokerSettings(url=broker.url, protocol="3.1.1")
        target = resolve_target(broker.url, None, None, None, None)
        older = settings.address({})
        report = examine(type(target)(older, older, target.fleet, target.id))

    assert report.measured.packet is not None
    assert 99_000 < report.measured.packet <= 100_000
    assert f"max_packet_bytes = {report.measured.packet}" in report.keys


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_finds_a_limit_of_messages_that_is_not_announced_with_either_version(
    monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    monkeypatch.setattr(measurements, "ARRIVAL_SECONDS", 0.5)
    with MosquittoBroker(extra=["message_size_limit 64000"]) as broker:
        address = BrokerSettings(url=broker.url, protocol=protocol).address({})
        report = examine(Target(address, address, "plant.7", "cam.01"))
    found = {finding.check: finding for finding in report.findings}

    assert report.fit
    assert report.measured.packet is not None
    assert 63_000 < report.measured.packet <= 64_100
    assert f"max_packet_bytes = {report.measured.packet}" in report.keys
    assert found["largest packet"].level == "warning"
    assert "not announced" in found["largest packet"].advice


def test_limit_above_what_is_tried_is_no_finding() -> None:
    """The page on security sets this one."""
    with MosquittoBroker(extra=["max_packet_size 16777216"]) as broker:
        report = examine(resolve_target(broker.url, None, None, None, None))
    (found,) = (finding for finding in report.findings if finding.check == "largest packet")

    assert (found.level, found.found, found.advice) == ("ok", "4.2 MB and more", "")
    assert not [key for key in report.keys if key.startswith("max_packet_bytes")]


def test_finds_a_limit_that_only_one_way_has() -> None:
    with MosquittoBroker() as broker:
        own = BrokerSettings(url=broker.url, protocol="3.1.1").address({})
        with FaultyProxy(broker.host, broker.port) as proxy:
            proxy.cut_longer["broker"] = 50_000
            far = BrokerSettings(url=proxy.url, protocol="3.1.1").address({})
            report = examine(Target(own, far, "f", "d"))

    assert report.measured.packet is not None
    assert 49_000 < report.measured.packet <= 50_000


def test_names_a_broker_that_renames_topics() -> None:
    port = free_port()
    with MosquittoBroker(extra=[f"listener {port} 127.0.0.1", "mount_point site-7/"]) as broker:
        inside = BrokerSettings(url=f"mqtt://127.0.0.1:{port}").address({})
        outside = BrokerSettings(url=broker.url).address({})
        reports = [examine(Target(*roles, "shop", "d")) for roles in ((outside, inside), (inside, outside))]

    for report, topic in zip(reports, ("upload", "repeat"), strict=True):
        (finding,) = [finding for finding in report.findings if finding.level == "failure"]
        assert (finding.check, finding.found) == ("topics", "renamed")
        assert f"fedlp/shop/{topic}/d arrives as site-7/fedlp/shop/{topic}/d" in finding.advice
        assert "mount_point" in finding.advice


def test_finds_nothing_wrong_with_the_embedded_broker(capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedBroker() as broker:
        code = run_doctor(broker.url, None, None, None, None, as_json=True)
    report = json.loads(capsys.readouterr().out)

    assert code == 0
    assert report["fit"]
    assert {finding["level"] for finding in report["findings"]} == {"ok"}
    assert report["measured"]["protocol"] == "3.1.1"
    assert not report["measured"]["queue_dropped"]
    assert report["keys"] == []


def test_says_that_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "fedlp_edge", "doctor", "broker", f"mqtt://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"COLUMNS": "200", "NO_COLOR": "1"},
    )

    assert done.returncode == 1
    assert f"nothing listens at mqtt://127.0.0.1:{port}" in done.stdout
    assert "A fleet would not work" in done.stdout


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoBroker]:
    """A broker with the rules of docs/security.md, whose users' passwords are their names."""
    directory = tmp_path_factory.mktemp("locked")
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "docs/security.md").read_text(encoding="utf-8"), re.DOTALL)
    (directory / "rules").write_text(next(block for block in blocks if block.startswith("user coordinator")))
    (directory / "passwords").write_text("".join(password_entry(user, user) for user in ("coordinator", "pi-1")))
    for file in directory.iterdir():
        file.chmod(0o600)
    extra = [f"password_file {directory / 'passwords'}", f"acl_file {directory / 'rules'}"]
    with MosquittoBroker(extra=extra, anonymous=False) as broker:
        yield broker


@pytest.mark.parametrize(
    ("login", "words"),
    [(None, "wants a login; set FEDLP_BROKER_USERNAME"), ("pi-1", "refuses the login of user 'pi-1'")],
)
def test_says_that_a_login_is_wanted_or_wrong(
    locked: MosquittoBroker, monkeypatch: pytest.MonkeyPatch, login: str | None, words: str
) -> None:
    if login:
        monkeypatch.setenv("FEDLP_BROKER_USERNAME", login)
        monkeypatch.setenv("FEDLP_BROKER_PASSWORD", "wrong")

    finding = look(locked.url)["connection"]

    assert finding.level == "failure"
    assert words in finding.advice


def write(path: Path, user: str, fleet: str) -> Path:
    path.write_text(f'fleet = "{fleet}"\n[broker]\nusername = "{user}"\npassword = "{user}"\n')
    return path


def test_finds_all_ways_open_under_the_documented_rules(locked: MosquittoBroker, tmp_path: Path) -> None:
    own, others = write(tmp_path / "f", "coordinator", "greenhouse"), write(tmp_path / "a", "pi-1", "greenhouse")

    report = examine(resolve_target(locked.url, own, others, None, None))

    assert report.fit
    assert report.measured.blocked == ()
    assert report.measured.forgeable is False
    assert report.measured.echo
    assert report.measured.answer_seconds
    assert report.measured.bytes_per_second


def test_names_the_ways_that_the_rules_do_not_open(locked: MosquittoBroker, tmp_path: Path) -> None:
    own, others = write(tmp_path / "f", "coordinator", "greenhouse"), write(tmp_path / "a", "pi-1", "greenhouse")

    report = examine(resolve_target(locked.url, own, others, None, "pi-2"))

    assert not report.fit
    assert report.measured.blocked
    topics = {route.topic for route in report.measured.blocked}
    assert topics >= {"fedlp/greenhouse/up/pi-2", "fedlp/greenhouse/down/pi-2", "fedlp/greenhouse/upload/pi-2"}
    assert all("access rules" in f.advice for f in report.findings if f.level == "failure")


def test_wants_a_broker_and_refuses_a_password_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match="name a broker"):
        resolve_target(None, None, None, None, None)
    with pytest.raises(ConfigError, match="visible to everyone"):
        resolve_target("mqtt://pi:secret@broker", None, None, None, None)
    with pytest.raises(ConfigError, match="--fleet a/b: use letters"):
        resolve_target("mqtt://broker", None, None, "a/b", None)
