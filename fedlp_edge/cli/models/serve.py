"""This module implements ``fedlp serve``, which answers requests with an exported model over HTTP and MQTT."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from pathlib import Path

from fedlp_edge.errors import OperatorError
from fedlp_edge.serving.http import INSTALL, make_app
from fedlp_edge.serving.mqtt import MqttServer
from fedlp_edge.serving.served_model import ServedModel
from fedlp_edge.system.lifecycle import StopSignal
from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.transport.mqtt.transport import MqttTransport

_END_SECONDS = 5.0  # for requests that are being answered


def run_serve(model: Path, host: str, port: int, threads: int, broker: str | None, topic: str) -> int:
    """Serves a model until a signal; the first line of output is its URL.

    Args:
        model: ONNX file; a new file in its place is used at once.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        threads: Threads of onnxruntime; 0 for its default.
        broker: URL of a broker on which requests are answered too; None for none.
        topic: Topic below which these requests and answers are.

    Raises:
        ExportError: The file is no usable model.
        OperatorError: Something is not installed, or the port is in use.
        BrokerError: The broker cannot be reached.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        import uvicorn  # noqa: PLC0415  # an extra
    except ImportError:
        raise OperatorError(INSTALL) from None
    served = ServedModel(model, threads)
    server = uvicorn.Server(uvicorn.Config(make_app(served), host=host, port=port, log_level="warning"))
    listening = _listening(host, port)
    print(f"serving {model} on http://{host}:{listening.getsockname()[1]}", flush=True)
    with StopSignal(lambda: setattr(server, "should_exit", True)) as stop:
        # Outside the main thread, uvicorn leaves the signals alone.
        http = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        http.start()
        try:
            if broker is None:
                stop.wait()
            else:
                address = BrokerSettings(url=broker).address()
                transport = MqttTransport(address, f"fedlp-serve-{secrets.token_hex(8)}")
                MqttServer(served, transport, topic).run(stop.is_set)
        finally:
            server.should_exit = True
            http.join(_END_SECONDS)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to the address.

    Raises:
        OperatorError: The port is in use, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; choose another --port"
        ) from None
