"""This module implements ``fedlp broker``, which runs a broker for a first try or a test until a signal."""

from __future__ import annotations

from typing import Literal

from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.local_broker import serve
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker

BrokerKind = Literal["embedded", "mosquitto"]


def run_broker(kind: BrokerKind, host: str, port: int) -> int:
    """Runs a broker until a signal, and prints ``listening on URL`` once clients can connect.

    Raises:
        OperatorError: The broker's software is not installed, or it cannot listen there.
    """
    return serve(MosquittoBroker(host, port) if kind == "mosquitto" else EmbeddedBroker(host, port))
