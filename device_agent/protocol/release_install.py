"""A model of a release on this device, from the coordinator's message to the last report about it.

The files are fetched by their digests; what becomes of them then is for ``installation`` to say, in reports that go to
whoever ordered it. A coordinator that repeats its message has missed the last report, and gets it again.
"""

from __future__ import annotations

from typing import Protocol

from device_agent.limits import LIMITS
from device_agent.protocol.downloads import Downloads
from device_agent.protocol.events import DropFiles, Effects, FilesWanted, Identity, InstallFiles, Log, Publish
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.messages import Install, InstallReport

_LIMITS = LIMITS.installation


class InstallationFacts(Protocol):
    """What is known of installations before anything is fetched."""

    @property
    def trying(self) -> Install | None:
        """The order whose model is being tried, which an earlier life of the agent may have begun; None for none."""

    def last_word(self, install: Install) -> InstallReport | None:
        """How the same installation ended; None if it is to be done."""

    def problem(self, install: Install, missing: int) -> str:
        """Why it cannot begin with so many bytes to fetch; empty if it can."""


class ReleaseInstall:
    """The installations that a roll-out orders, one at a time.

    Args:
        identity: Identity of the agent.
        downloads: Downloads of the files.
        facts: What is known of earlier installations, and of the disk.
    """

    def __init__(self, identity: Identity, downloads: Downloads, facts: InstallationFacts) -> None:
        self._identity = identity
        self._downloads = downloads
        self._facts = facts
        self._wanted: Install | None = None
        self._trying: Install | None = None
        self._next: Install | None = None
        self._names: tuple[str, ...] = ()
        self._report: InstallReport | None = None
        self._reported_at = 0.0
        self._missing = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is fetched or tried."""
        return self._wanted is None and self._tried is None

    def next_wakeup(self) -> float | None:
        """When ``poll`` has something to do, unless an event comes first."""
        times = [self._downloads.next_wakeup()] if self._wanted is not None else []
        if self._tried is not None:
            times.append(self._reported_at + _LIMITS.report_seconds)
        return min((time for time in times if time is not None), default=None)

    def order(self, message: Install, now: float) -> Effects:
        """A coordinator tells this device to install a model."""
        if (tried := self._tried) is not None:
            if _same(tried, message):
                return self._repeat()
            self._next = message  # what is being tried cannot be left half done
            return []
        if self._wanted is not None and _same(self._wanted, message):
            return self._repeat()
        if (last := self._facts.last_word(message)) is not None:
            return [Publish(self._up, last)]
        note = Log(f"release {message.release} is to be installed")
        self._report = None
        return [note, *self._fetch(message, first_files(message), now)]

    def files_wanted(self, event: FilesWanted, now: float) -> Effects:
        """What verifies the files cannot do without some that were left out."""
        message = self._trying
        if message is None or not _same(message, event.install):
            return []
        self._trying, self._wanted = None, message
        unknown = set(event.names) - {file.name for file in message.files}
        if unknown or set(event.names) <= set(self._names):
            return self._failed(f"the roll-out does not name the file {', '.join(sorted(unknown or event.names))}")
        return self._fetch(message, tuple(dict.fromkeys((*self._names, *event.names))), now)

    def _fetch(self, message: Install, names: tuple[str, ...], now: float) -> Effects:
        self._wanted, self._names = message, names
        versions = {file.version.digest: file.version for file in message.files if file.name in names}
        try:
            self._downloads.start(versions.values(), now, patience=0.0)
        except OSError as error:
            return self._failed(f"the files cannot be stored: {error.strerror}")
        if problem := self._facts.problem(message, self._downloads.missing_bytes):
            return self._failed(problem)
        return [*self._say("receiving", now), *self.progress(now)]

    def coordinator_online(self, now: float) -> None:
        """Goes on, since a coordinator is there (again)."""
        if self._wanted is not None:
            self._downloads.ask_soon(now)

    def received(self, now: float) -> Effects:
        """A chunk has come: the coordinator hears of it now and then."""
        if self._wanted is None:
            return []
        if self._downloads.complete or now < self._reported_at + _LIMITS.report_seconds:
            return self.progress(now)
        before, self._missing = self._missing, self._downloads.missing
        return self._say("receiving", now) if self._missing != before else []

    def progress(self, now: float) -> Effects:
        """Has the files tried once they are all there."""
        if self._wanted is None or not self._downloads.complete:
            return []
        self._trying, self._wanted, self._reported_at = self._wanted, None, now
        return [InstallFiles(self._trying, self._names)]

    def reported(self, report: InstallReport, now: float) -> Effects:
        """The installation has come to a next state; one that an earlier life has begun is told as well."""
        self._report, self._reported_at = report, now
        effects: Effects = [Publish(self._up, report)]
        if report.state not in ("installed", "failed"):
            return effects
        if report.state == "installed":
            effects.append(Log(f"release {report.release} is installed"))
        else:
            effects.append(Log(f"release {report.release} is not installed: {report.reason}", warning=True))
        self._trying, following, self._next = None, self._next, None
        return effects if following is None else [*effects, *self.order(following, now)]

    def rejected(self, reason: str) -> Effects:
        """What was downloaded is not acceptable, or cannot be stored."""
        return self._failed(reason) if self._wanted is not None else []

    def poll(self, now: float) -> Effects:
        """Asks for what is missing, and says that this device is still at work."""
        effects: Effects = []
        if self._wanted is not None:
            requests = self._downloads.requests(self._wanted.run, self._identity.device, now)
            effects += [Publish(self._up, request) for request in requests]
        if self._tried is not None and now >= self._reported_at + _LIMITS.report_seconds:
            self._reported_at = now
            effects += self._repeat()
        return effects

    @property
    def _tried(self) -> Install | None:
        """The order whose model is being tried; an earlier life of this agent may have begun with it."""
        return self._trying or self._facts.trying

    @property
    def _up(self) -> str:
        return self._identity.topics.of("up", self._identity.device)

    def _repeat(self) -> Effects:
        return [] if self._report is None else [Publish(self._up, self._report)]

    def _say(self, state: str, now: float, reason: str = "") -> Effects:
        message = self._wanted
        if message is None:
            return []
        self._reported_at = now
        self._report = InstallReport(
            run=message.run,
            device=self._identity.device,
            release=message.release,
            state="failed" if state == "failed" else "receiving",
            reason=reason[: LIMITS.messages.reason_characters],
        )
        return self._repeat()

    def _failed(self, reason: str) -> Effects:
        message = self._wanted
        effects = self._say("failed", self._reported_at, reason)
        self._wanted = None
        self._downloads.abandon()
        release = "" if message is None else f" {message.release}"
        return [*effects, DropFiles(), Log(f"release{release} is not installed: {reason}", warning=True)]


def first_files(message: Install) -> tuple[str, ...]:
    """Returns the names of the files that are fetched at once: none that may be assembled from its graph."""
    names = [file.name for file in message.files]
    return tuple(name for name in names if f"{name}.graph" not in names)


def _same(one: Install, other: Install) -> bool:
    return (one.run, one.release, one.files) == (other.run, other.release, other.files)


def failure_of(error: PeerError | OSError) -> str:
    """What to say of a chunk that could not be taken."""
    return f"the files cannot be stored: {error.strerror}" if isinstance(error, OSError) else str(error)
