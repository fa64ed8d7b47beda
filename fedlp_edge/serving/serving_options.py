"""This module says what a serving process needs to know, and what it says, as data."""

from __future__ import annotations

import msgspec

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.transport.address import BrokerSettings

OPTIONS_VARIABLE = "FEDLP_SERVING_OPTIONS"
"""Environment variable with the options of a serving process in JSON."""


class ServingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and where.

    Attributes:
        model: Path of the ONNX file, or of a link to one; a new file in its place is used from the next request on.
        listen: Address and port for HTTP, port 0 for a free one; None for no HTTP.
        broker: Broker on which requests are answered; None for none.
        topic: Topic below which requests and answers are.
        threads: Threads of onnxruntime; 0 for its default.
        report_seconds: Seconds between two reports.
        port_name: Name of the option or key with the port, in messages.
    """

    model: str
    listen: tuple[str, int] | None = None
    broker: BrokerSettings | None = None
    topic: str = ""
    threads: int = 0
    report_seconds: float = 60.0
    port_name: str = "--port"


class ServingLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line that a serving process says.

    Attributes:
        started: Whether requests are answered from now on.
        url: Where they are answered over HTTP; empty for nowhere.
        report: What was answered so far.
    """

    started: bool = False
    url: str = ""
    report: ServingReport | None = None
