from __future__ import annotations

import re
import socket

import pytest

from fedlp_edge.errors import OperatorError
from fedlp_edge.transport.brokers.ports import broker_url, check_free, free_port


def test_port_that_is_found_is_free() -> None:
    port = free_port()

    check_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port


def test_says_that_something_listens_on_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = (
            f"cannot listen on 127.0.0.1:{port}: Address already in use; is another broker running there? "
            "Choose another port"
        )
        with pytest.raises(OperatorError, match=f"^{re.escape(text)}$"):
            check_free("127.0.0.1", port)


def test_url_has_brackets_around_an_ipv6_address() -> None:
    assert broker_url("127.0.0.1", 1883) == "mqtt://127.0.0.1:1883"
    assert broker_url("::1", 8883, tls=True) == "mqtts://[::1]:8883"
