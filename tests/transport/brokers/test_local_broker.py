"""A broker that runs until it is told to end."""

from __future__ import annotations

import signal
from typing import Self

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.brokers.local_broker import arguments, serve


class Broker:
    """A broker that nobody can connect to.

    Args:
        ends: Whether it ends by itself; otherwise it is told to end as soon as it has started.
    """

    url = "mqtt://127.0.0.1:1"

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends
        self.running = False

    def alive(self) -> bool:
        return not self._ends

    def __enter__(self) -> Self:
        self.running = True
        if not self._ends:
            signal.raise_signal(signal.SIGTERM)
        return self

    def __exit__(self, *exception: object) -> None:
        self.running = False


def test_says_where_it_listens_and_ends_on_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    broker = Broker(ends=False)
    assert serve(broker) == 0
    assert capsys.readouterr().out == "listening on mqtt://127.0.0.1:1\n"
    assert not broker.running


def test_broker_that_ends_by_itself_is_an_error() -> None:
    broker = Broker(ends=True)
    with pytest.raises(BrokerError, match=r"^the broker at mqtt://127\.0\.0\.1:1 ended unexpectedly$"):
        serve(broker)
    assert not broker.running


def test_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    usual = arguments("broker", "A broker.", [])
    assert (usual.host, usual.port) == ("127.0.0.1", 1883)
    told = arguments("broker", "A broker.", ["--host", "0.0.0.0", "--port", "0"])
    assert (told.host, told.port) == ("0.0.0.0", 0)
