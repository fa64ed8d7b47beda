"""A running broker with the logins and topics of a measurement."""

from __future__ import annotations

import pytest

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.diagnostics.measurements import MeasuredBroker


@pytest.fixture
def address(mosquitto: MosquittoBroker) -> BrokerAddress:
    return BrokerAddress.parse(mosquitto.url, {})


@pytest.fixture
def measured(address: BrokerAddress, request: pytest.FixtureRequest) -> MeasuredBroker:
    root = f"fedlp/{request.node.name}"
    return MeasuredBroker(address, address, "5", f"{root}/down/d", f"{root}/upload/d", f"{root}/device/d")
