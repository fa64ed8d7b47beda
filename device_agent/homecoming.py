"""After the last round: fetch the ONNX file of the device's depth and have it installed. Pure."""

from __future__ import annotations

from device_agent.downloads import Downloads
from device_agent.effects import Effects, Identity, InstallFailed, InstallModel, ModelInstalled, Note, Publish, Stop
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.messages import Farewell, UnitRequest

MAX_MODEL_BYTES = 1 << 31
"""What a self-contained ONNX file can have (a protobuf message)."""

PATIENCE = 30.0
"""Seconds to go on waiting for the final model after the coordinator went offline."""


class Homecoming:
    """The end of a run on this device.

    Args:
        identity: of the agent.
        downloads: of ONNX files.
        once: end the agent when all is done.
    """

    def __init__(self, identity: Identity, downloads: Downloads, once: bool) -> None:
        self._identity = identity
        self._downloads = downloads
        self._once = once
        self._farewell: Farewell | None = None
        self._finished: str | None = None
        self._pending = 0
        self._give_up_at: float | None = None
        self._installing = False

    @property
    def idle(self) -> bool:
        """Whether no final model is on its way."""
        return self._farewell is None

    def deadline(self) -> float | None:
        """When ``work`` has something to do, unless an event comes first."""
        if self._farewell is None:
            return None
        return self._downloads.deadline() if self._give_up_at is None else self._give_up_at

    def start(self, message: Farewell, now: float) -> Effects:
        """The run is over; begins fetching what there is to fetch."""
        if self._farewell == message or self._finished == message.run:
            return []
        note = Note(f"run {message.run} is over" + (f" after {message.rounds} rounds" if message.rounds else ""))
        if not message.models:
            return [note, *self._done(message.run)]
        for version in message.models:
            if not version.unit.startswith("onnx-") or not 0 < version.size <= MAX_MODEL_BYTES:
                return [note, *self._fail(f"the final model {version.unit} is not acceptable")]
        self._farewell, self._pending = message, len(message.models)
        self._downloads.start(message.models, now, patience=0.0)
        return [note, *self.progress()]

    def online(self, now: float) -> None:
        """A coordinator is there (again)."""
        self._give_up_at = None
        self._downloads.nudge(now)

    def offline(self, now: float) -> None:
        """Nobody is there to answer requests."""
        if self._farewell is not None and not self._downloads.complete:
            self._give_up_at = now + PATIENCE

    def progress(self) -> Effects:
        """Installs the files once they are all there."""
        if self._farewell is None or self._installing or not self._downloads.complete:
            return []
        self._installing = True
        return [InstallModel(self._farewell.run, version) for version in self._farewell.models]

    def installed(self, event: ModelInstalled) -> Effects:
        """A file is in its place and computes."""
        self._pending -= 1
        note = Note(f"final model installed: {event.path}")
        if self._farewell is None or self._pending:
            return [note]
        return [note, *self._done(self._farewell.run)]

    def install_failed(self, event: InstallFailed) -> Effects:
        """A file is not usable."""
        return self._fail(event.reason)

    def rejected(self, error: PeerError) -> Effects:
        """What was downloaded is not acceptable."""
        return self._fail(str(error))

    def cancel(self) -> None:
        """Another run has begun."""
        self._farewell, self._give_up_at, self._installing = None, None, False

    def work(self, now: float) -> Effects:
        """Asks for what is missing, or gives up."""
        if self._farewell is None:
            return []
        if self._give_up_at is not None:
            return (
                self._fail("the coordinator left before the final model had arrived") if now >= self._give_up_at else []
            )
        topic = self._identity.topics.of("up", self._identity.device)
        return [
            Publish(
                topic,
                UnitRequest(
                    run=self._farewell.run,
                    device=self._identity.device,
                    unit=version.unit,
                    digest=version.digest,
                    missing=missing,
                ),
            )
            for version, missing in self._downloads.overdue(now)
        ]

    def _done(self, run: str) -> Effects:
        self.cancel()
        self._finished = run
        return [Stop()] if self._once else []

    def _fail(self, reason: str) -> Effects:
        self.cancel()
        return [Stop(reason)] if self._once else [Note(reason, warning=True)]
