"""This module implements ``fedlp serve``, which answers requests with an exported model over HTTP and MQTT."""

from __future__ import annotations

import logging
from pathlib import Path

from fedlp_edge.serving.serving_loop import serve_model
from fedlp_edge.serving.serving_options import ServingOptions
from fedlp_edge.transport.address import BrokerSettings


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
    options = ServingOptions(
        model=str(model),
        listen=(host.strip("[]"), port),
        broker=None if broker is None else BrokerSettings(url=broker),
        topic=topic,
        threads=threads,
    )
    serve_model(options, lambda url: print(f"serving {model} on {url}", flush=True))
    return 0
