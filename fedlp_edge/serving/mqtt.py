"""This module serves a model over MQTT: a request's payload is a sample, the answer is JSON on the topic beside it.

Below a prefix such as ``home/door``, a request to ``home/door/infer/NUMBER`` is answered on
``home/door/answer/NUMBER``, and one to ``home/door/infer`` on ``home/door/answer``. What the model has answered stands
retained on ``home/door/statistics``.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable

import msgspec

from fedlp_edge.errors import FedLPError
from fedlp_edge.serving.served_model import MAX_REQUEST_BYTES, ServedModel, type_of
from fedlp_edge.transport.base import Disconnected, Received, Refused, Transport, TransportEvent
from fedlp_edge.transport.retry_log import RefusalLog

log = logging.getLogger("fedlp.serve")

STATISTICS_SECONDS = 60.0
"""Seconds between two publications of the statistics."""

MAX_WAITING = 64
"""Requests that may wait; further ones are answered at once, with an error."""

_WAIT_SECONDS = 0.5


class MqttServer:
    """Answers requests from a broker in the order in which they come.

    Args:
        model: Model that answers.
        transport: Connection to the broker, not yet started.
        prefix: Topic below which requests and answers are.
    """

    def __init__(self, model: ServedModel, transport: Transport, prefix: str) -> None:
        self._model = model
        self._transport = transport
        self._prefix = prefix.strip("/")
        self._refusals = RefusalLog("this")
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_WAITING)

    @property
    def request_topic(self) -> str:
        """Topic of requests without a number."""
        return f"{self._prefix}/infer"

    def run(self, stopped: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """Answers until it is stopped.

        Raises:
            BrokerError: The first connection fails for good.
        """
        self._transport.start(self._heard)
        self._transport.subscribe(f"{self.request_topic}/#")  # the topic itself, too
        published = -STATISTICS_SECONDS
        try:
            while not stopped():
                if clock() - published >= STATISTICS_SECONDS:
                    published = clock()
                    self._publish(f"{self._prefix}/statistics", self._model.report(), retain=True)
                try:
                    topic, payload = self._waiting.get(timeout=_WAIT_SECONDS)
                except queue.Empty:
                    continue
                self._publish(topic, self._answer(payload))
        finally:
            self._transport.stop()

    def _heard(self, event: TransportEvent) -> None:
        match event:
            case Received(topic, payload, retained) if not retained and topic.startswith(self.request_topic):
                rest = topic.removeprefix(self.request_topic)
                answer_topic = f"{self._prefix}/answer{rest}"
                try:
                    self._waiting.put_nowait((answer_topic, payload))
                except queue.Full:
                    self._publish(answer_topic, {"error": f"{MAX_WAITING} requests are waiting; try again later"})
            case Disconnected(reason, repeated) if not repeated:
                log.warning("lost the broker: %s; trying again", reason)
            case Refused():
                if line := self._refusals.line(event, time.monotonic()):
                    log.warning("%s", line)
            case _:
                pass

    def _answer(self, payload: bytes) -> object:
        if len(payload) > MAX_REQUEST_BYTES:
            return {"error": f"the request is larger than {MAX_REQUEST_BYTES // 2**20} MiB"}
        try:
            return self._model.answer(payload, type_of(payload))
        except FedLPError as error:
            return {"error": str(error)}

    def _publish(self, topic: str, content: object, *, retain: bool = False) -> None:
        self._transport.publish(topic, msgspec.json.encode(content), retain=retain)
