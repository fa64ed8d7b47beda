"""A process that answers in a device's role; here its code runs in a thread."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.diagnostics.client import DiagnosticClient
from fedlp_edge.transport.diagnostics.device_double import READY, DoubleSettings, main
from fedlp_edge.transport.presets import PRESETS

texts = st.none() | st.text("abc/.-", min_size=1, max_size=5)


@settings(max_examples=20)
@given(
    port=st.integers(1, 65535),
    tls=st.booleans(),
    texts=st.tuples(texts, texts, texts, texts, texts),
    path=st.none() | st.just("/mqtt"),
    preset=st.sampled_from(sorted(PRESETS)),
    protocol=st.sampled_from(["auto", "5", "3.1.1"]),
    keepalive=st.integers(1, 600),
)
def test_address_survives_the_way_to_the_process(
    port: int,
    tls: bool,
    texts: tuple[str | None, ...],
    path: str | None,
    preset: str,
    protocol: str,
    keepalive: int,
) -> None:
    username, password, *files = texts
    ca, certificate, key = (None if file is None else Path(file) for file in files)
    address = BrokerAddress(
        "h", port, tls, username, password, ca, certificate, key, PRESETS[preset],  # type: ignore[index]
        protocol=protocol, path=path, keepalive_seconds=keepalive,  # type: ignore[arg-type]
    )  # fmt: skip
    sent = msgspec.json.encode(DoubleSettings.of(address, hears="down", answers="up"))
    read = msgspec.json.decode(sent, type=DoubleSettings)
    assert (read.hears, read.answers, read.address()) == ("down", "up", address)


def test_sends_back_what_it_hears_until_its_input_ends(address: BrokerAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    hears, answers = "fedlp/double/down", "fedlp/double/up"
    reading, writing = os.pipe()
    said, saying = os.pipe()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(os.fdopen(reading, "rb")))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(os.fdopen(saying, "wb")))
    ended: list[int] = []
    with (
        os.fdopen(writing, "wb") as orders,
        os.fdopen(said, "rb") as out,
        DiagnosticClient(address, "5", "doubled") as coordinator,
    ):
        orders.write(msgspec.json.encode(DoubleSettings.of(address, hears, answers)) + b"\n")
        orders.flush()
        thread = threading.Thread(target=lambda: ended.append(main()))
        thread.start()
        assert out.readline().decode().strip() == READY
        coordinator.subscribe(answers)
        coordinator.publish(hears, b"are you there?")
        message = coordinator.next()
        orders.close()
        thread.join(10)
    assert message is not None
    assert (message.topic, message.payload) == (answers, b"are you there?")
    assert ended == [0]
