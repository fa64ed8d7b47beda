"""This module answers requests over HTTP and MQTT until it is told to stop, and reports from time to time.

An agent runs this module as a process of its own: native code that crashes must not
end the agent. The options are in an environment variable, where a login is out of sight; each line of output is one
`ServingLine` in JSON; the end of standard input ends the process.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import BrokerError, OperatorError
from fedlp_edge.serving.http import INSTALL, make_app
from fedlp_edge.serving.mqtt import MqttServer
from fedlp_edge.serving.served_model import ServedModel
from fedlp_edge.serving.serving_options import OPTIONS_VARIABLE, ServingLine, ServingOptions
from fedlp_edge.system.lifecycle import StopSignal, run_command
from fedlp_edge.transport.address import BrokerSettings
from fedlp_edge.transport.mqtt.transport import MqttTransport

LOGIN_SECONDS = 60.0
"""Seconds until a broker that has refused the login is asked again."""

_END_SECONDS = 5.0  # for requests that are being answered

log = logging.getLogger("fedlp.serve")


def serve_model(
    options: ServingOptions, started: Callable[[str], None], reported: Callable[[ServingReport], None] | None = None
) -> None:
    """Serves a model until a signal.

    Args:
        options: What is served, and where.
        started: Called once requests are answered, with the URL; empty without HTTP.
        reported: Called every ``options.report_seconds`` with what was answered so far.

    Raises:
        ExportError: The file is no usable model.
        OperatorError: Something is not installed, or the port is in use.
        BrokerError: The broker refuses the connection, and there is no HTTP that goes on meanwhile.
    """
    served = ServedModel(Path(options.model), options.threads)
    listening = _listening(options) if options.listen is not None else None
    connecting: list[MqttTransport] = []
    with StopSignal(lambda: _cancel(connecting)) as stop:
        threads = []
        if listening is not None:
            threads.append(threading.Thread(target=_serve_http, args=(served, listening, stop), daemon=True))
        if reported is not None:
            threads.append(threading.Thread(target=_report, args=(served, reported, options, stop), daemon=True))
        for thread in threads:
            thread.start()
        host, _ = options.listen or ("", 0)
        started(f"http://{_shown(host)}:{listening.getsockname()[1]}" if listening is not None else "")
        try:
            if options.broker is None:
                stop.wait()
            else:
                _serve_mqtt(served, options.broker, options.topic, stop, connecting, alone=listening is None)
        finally:
            stop.set()
            for thread in threads:
                thread.join(_END_SECONDS)


def _serve_mqtt(
    served: ServedModel,
    broker: BrokerSettings,
    topic: str,
    stop: StopSignal,
    connecting: list[MqttTransport],
    *,
    alone: bool,
) -> None:
    """Answers requests from a broker, and asks one that refuses the login again, as HTTP must not end with it.

    Args:
        served: Model that answers.
        broker: Settings of the broker.
        topic: Topic of the requests.
        stop: Ends the answers.
        connecting: Holds the transport, for a stop that comes while it makes its connection.
        alone: Whether there is no HTTP, so that a refusal is the end.
    """
    told = ""
    while not stop.is_set():
        try:
            # HTTP goes on where the broker is away, and so does MQTT once it is there.
            transport = MqttTransport(broker.address(), f"fedlp-serve-{secrets.token_hex(8)}", patient=True)
            connecting[:] = [transport]
            if stop.is_set():
                return
            MqttServer(served, transport, topic).run(stop.is_set)
        except BrokerError as error:
            if alone:
                raise
            if told != str(error):
                log.error("%s; HTTP goes on, and the broker is asked again every %.0f s", error, LOGIN_SECONDS)
            told = str(error)
            stop.wait(LOGIN_SECONDS)


def _cancel(connecting: list[MqttTransport]) -> None:
    """Lets a connection that is being made not hold up the end."""
    for transport in connecting:
        transport.cancel_start()


def _serve_http(served: ServedModel, listening: socket.socket, stop: StopSignal) -> None:
    import uvicorn  # noqa: PLC0415  # an extra

    server = uvicorn.Server(uvicorn.Config(make_app(served), log_level="warning"))

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    server.run(sockets=[listening])  # outside the main thread, it leaves the signals alone


def _report(
    served: ServedModel, reported: Callable[[ServingReport], None], options: ServingOptions, stop: StopSignal
) -> None:
    while not stop.wait(options.report_seconds):
        reported(served.report())


def _listening(options: ServingOptions) -> socket.socket:
    """Returns a socket that is bound to the address.

    Raises:
        OperatorError: What HTTP needs is not installed, the port is in use, or the address is not this machine's.
    """
    try:
        import starlette  # noqa: F401, PLC0415  # an extra
        import uvicorn  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        raise OperatorError(INSTALL) from None
    host, port = options.listen or ("", 0)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        everywhere = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(place, family=family, dualstack_ipv6=everywhere)
    except OSError as error:
        raise OperatorError(f"cannot listen on {_shown(host)}:{port}: {_refusal(error, host, options)}") from None


def _refusal(error: OSError, host: str, options: ServingOptions) -> str:
    """Returns why nothing can listen at an address, and what to do."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; 0.0.0.0 stands for all that it has, 127.0.0.1 for itself alone"
    reason = os.strerror(error.errno or 0)
    lowest = " from 1024 on, as those below are for root" if error.errno == errno.EACCES else ""
    return f"{reason}; choose another {options.port_name}{lowest}"


def _shown(host: str) -> str:
    """Returns a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def main() -> None:
    """Serves as the environment says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = msgspec.json.decode(os.environ.pop(OPTIONS_VARIABLE), type=ServingOptions)

    def say(line: ServingLine) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.flush()

    def command() -> None:
        serve_model(
            options,
            lambda url: say(ServingLine(started=True, url=url)),
            lambda report: say(ServingLine(report=report.shortened)),
        )

    sys.exit(run_command(command))


if __name__ == "__main__":
    main()
