"""``fedlp broker``: a broker for a first try or a test, until it is told to stop."""

from __future__ import annotations

from typing import Literal

from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.local_broker import serve
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker

BrokerKind = Literal["embedded", "mosquitto"]


def run_broker(kind: BrokerKind, host: str, port: int) -> int:
    """Prints ``listening on URL`` once it does, and serves until a signal.

    Raises:
        OperatorError: the broker's software is not installed, or it cannot listen there.
    """
    return serve(MosquittoBroker(host, port) if kind == "mosquitto" else EmbeddedBroker(host, port))
