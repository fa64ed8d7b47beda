"""Uploads finished updates to the coordinator: offer, grant, chunks, receipt.

An update is offered until the coordinator grants it (it may be busy with others), sent in a bounded window, and
offered again if no receipt follows, since the broker's acknowledgement says nothing of the coordinator. Uploads are
paced where the profile states a link.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, ForgetUpdate, Identity, Log, Publish, SendChunk
from device_agent.protocol.link.link_estimate import LinkState, carried_rate, observed_rate
from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.core.seeds import uniform
from fedlp_edge.wire.chunks import CHUNK_SECONDS, expand
from fedlp_edge.wire.messages import Grant, Receipt

_LIMITS = LIMITS.uploads


@dataclass
class _Upload:
    update: Update
    offer_at: float
    patience: float = _LIMITS.offer_seconds
    offers: int = 0
    heard: int = 0
    waiting: deque[int] = field(default_factory=deque)
    in_flight: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    repeated_grants: int = 0
    window: int = 1
    began: float | None = None
    last_at: float = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.in_flight)

    @property
    def can_send(self) -> bool:
        return bool(self.waiting) and len(self.in_flight) < self.window

    def carried_rate(self) -> float | None:
        """Returns the bytes per second that the broker took at the least; None if it took nothing."""
        if self.began is None:
            return None
        sent = min(len(self.acknowledged) * self.update.chunk_bytes, self.update.size)
        return carried_rate(sent, self.last_at - self.began)

    def observed_rate(self, now: float) -> float | None:
        """Returns the bytes per second that the broker took; None if that says nothing."""
        if self.began is None:
            return None
        sent = min((len(self.acknowledged) + len(self.in_flight)) * self.update.chunk_bytes, self.update.size)
        return observed_rate(sent, (now if self.in_flight else self.last_at) - self.began)


class Uploads:
    """The updates of this device for which no receipt has come.

    Args:
        identity: Identity of the agent.
        coordinator: Presence of the coordinator and its run; nothing is offered or sent while none is there.
        updates: Left in the outbox by an earlier life; offered once the coordinator of their run is there.
        link_bytes_per_second: Uploads stay below it; None for as fast as the broker takes them.
        link: State of the link; None for one of which nothing is known.

    Attributes:
        uncounted_bytes_down: Model bytes received for updates that no round counts, which the next offer or failure
            names together with its own.
        uncounted_payload_down: Bytes of the blobs among them, without headers and repeats.
    """

    def __init__(
        self,
        identity: Identity,
        coordinator: CoordinatorPresence,
        updates: Iterable[Update] = (),
        link_bytes_per_second: float | None = None,
        link: LinkState | None = None,
    ) -> None:
        self._identity = identity
        self._coordinator = coordinator
        self._topic = identity.topics.of("up", identity.device)
        self._link = LinkState() if link is None else link
        self.uncounted_bytes_down = 0
        self.uncounted_payload_down = 0
        self._rate_limit = link_bytes_per_second
        self._link_free_at = -math.inf
        self._longest_message: int | None = None
        self._rules_suspected = False
        self._uploads = {update.id: _Upload(update, offer_at=-math.inf) for update in updates}

    def find(self, fingerprint: str) -> Update | None:
        """Returns the update that answers a task, if it is already trained; None otherwise."""
        return next((d.update for d in self._uploads.values() if d.update.fingerprint == fingerprint), None)

    @property
    def idle(self) -> bool:
        """Whether no update waits for a receipt."""
        return not self._current()

    def next_wakeup(self) -> float | None:
        """Returns when ``poll`` has something to do unless an event comes first, in seconds; None if never."""
        times = [upload.offer_at for upload in self._current()]
        if any(upload.can_send for upload in self._current()):
            times.append(self._link_free_at)
        return min(times, default=None)

    def add(self, update: Update, now: float) -> Effects:
        """Takes up an update (again) and offers it at once; earlier updates of its round are dropped."""
        others = [i for i in self._uploads if i[:2] == update.id[:2] and i != update.id]
        self._uploads[update.id] = _Upload(update, offer_at=now)
        return [*self._forget(others), *self.poll(now)]

    def coordinator_online(self, now: float) -> Effects:
        """Offers every update anew, since a coordinator is online (again); those of another run are dropped."""
        others = [update for update in self._uploads if update.run != self._coordinator.run]
        for upload in self._uploads.values():
            upload.offer_at, upload.patience, upload.heard = now, _LIMITS.offer_seconds, 0
            upload.waiting.clear()
        return [*self._forget(others), *self.poll(now)]

    def limit_message_bytes(self, most: int | None) -> None:
        """Sets how many payload bytes the broker carries in a message; None for any number."""
        if most is not None:
            self._longest_message = min(most, self._longest_message or most)

    def grant(self, message: Grant, now: float) -> Effects:
        """Sends the chunks that the coordinator asks for, after those that it asked for before."""
        upload = self._uploads.get(UpdateId(message.run, message.round, message.digest))
        if upload is None:
            return []
        upload.heard = message.number
        # What is in flight the transport will bring, even over a reconnect.
        known = upload.in_flight.union(upload.waiting)
        wanted = [i for i in expand(message.missing, upload.update.chunk_count) if i not in known]
        effects = self._suspect_length(upload, wanted)
        upload.waiting.extend(wanted)
        upload.began = now if upload.began is None else upload.began
        upload.window = self._link.estimate.window(upload.update.chunk_bytes, message.window)
        upload.patience = _LIMITS.receipt_seconds
        upload.offer_at = now + self._patience(upload)
        return [*effects, *self.poll(now)]

    def delivered(self, update: UpdateId, index: int, now: float) -> Effects:
        """Notes that the broker took a chunk, so that the next one may go."""
        upload = self._uploads.get(update)
        if upload is None or index not in upload.in_flight:
            return []
        upload.in_flight.remove(index)
        upload.acknowledged.add(index)
        upload.last_at = now
        upload.offer_at = now + self._patience(upload)
        return self.poll(now)

    def refused(self, update: UpdateId, index: int, now: float) -> Effects:
        """Sends a chunk again that the broker does not carry as it was, as short as messages now must be."""
        upload = self._uploads.get(update)
        if upload is None or index not in upload.in_flight:
            return []
        upload.in_flight.remove(index)
        if self._longest_message is not None:
            upload.waiting.appendleft(index)
        return self.poll(now)

    def receipt(self, message: Receipt, now: float) -> Effects:
        """Takes the coordinator's decision on an update, which is then dropped."""
        update = UpdateId(message.run, message.round, message.digest)
        upload = self._uploads.get(update)
        if upload is None:
            return []
        if message.state == "stale":
            self._link.missed(upload.observed_rate(now))
            self.uncounted_bytes_down += upload.update.bytes_down
            self.uncounted_payload_down += upload.update.payload_down
        if message.state == "accepted":
            self._link.carried_up = upload.carried_rate()
            note = Log(f"round {message.round}: update accepted")
        else:
            note = Log(f"round {message.round}: update {message.state}: {message.reason or 'no reason given'}", True)
        return [note, *self._forget([update])]

    def drop_run(self, run: str) -> Effects:
        """Drops the updates of a run that is over."""
        return self._forget([update for update in self._uploads if update.run == run])

    def take_uncounted_bytes_down(self) -> int:
        """Returns ``uncounted_bytes_down`` and sets it to 0; the caller reports the bytes to the coordinator."""
        nbytes, self.uncounted_bytes_down = self.uncounted_bytes_down, 0
        return nbytes

    def take_uncounted_payload_down(self) -> int:
        """Returns ``uncounted_payload_down`` and sets it to 0; the caller reports the bytes to the coordinator."""
        nbytes, self.uncounted_payload_down = self.uncounted_payload_down, 0
        return nbytes

    def poll(self, now: float) -> Effects:
        """Offers and sends what is due."""
        effects: Effects = []
        for upload in self._current():
            if upload.offer_at <= now:
                effects.append(Publish(self._topic, upload.update.offer(self._identity.session, upload.heard)))
                upload.offers += 1
                later = _LIMITS.offer_spread * uniform("offer", self._identity.device, upload.offers)
                upload.offer_at = now + self._answer_seconds + upload.patience * (1 + later)
                upload.patience = min(2 * upload.patience, _LIMITS.longest_offer_seconds)
            while upload.can_send and self._link_free_at <= now:
                index = upload.waiting.popleft()
                upload.in_flight.add(index)
                effects.append(SendChunk(upload.update.id, index, self._piece_bytes(upload.update)))
                if self._rate_limit:
                    self._link_free_at = max(now, self._link_free_at) + upload.update.chunk_bytes / self._rate_limit
        return effects

    def _suspect_length(self, upload: _Upload, wanted: list[int]) -> Effects:
        """Takes chunks that are wanted again and again, though the broker has acknowledged them, for too long ones."""
        if not wanted or not upload.acknowledged.issuperset(wanted):
            upload.repeated_grants = 0
            return []
        upload.repeated_grants += 1
        usual = min(self._longest_message or upload.update.chunk_bytes, upload.update.chunk_bytes)
        if upload.repeated_grants < _LIMITS.repeated_grants:
            return []
        upload.repeated_grants = 0
        if usual <= _LIMITS.least_piece_bytes:
            return self._suspect_rules()
        self._longest_message = max(_LIMITS.least_piece_bytes, usual // 4)
        text = (
            f"messages of {usual} bytes are acknowledged by the broker and do not arrive; they go in pieces of "
            f"{self._longest_message} from here on (fedlp doctor broker finds its limit: max_packet_bytes in [broker])"
        )
        return [Log(text, warning=True)]

    def _suspect_rules(self) -> Effects:
        """Says once that even the shortest messages do not arrive, so that their length is not what is wrong."""
        if self._rules_suspected:
            return []
        self._rules_suspected = True
        topic = self._identity.topics.of("upload", self._identity.device)
        text = (
            f"not even messages of {_LIMITS.least_piece_bytes} bytes on {topic} arrive, though the broker acknowledges "
            "them: do its access rules let this device publish there? Many brokers drop what they forbid without a word"
        )
        return [Log(text, warning=True)]

    def _piece_bytes(self, update: Update) -> int | None:
        """Of the pieces of its chunks, which were cut before the broker's limit or the link was known; None for one."""
        suited = self._link.estimate.chunk_bytes(update.chunk_bytes)
        return suited if suited < (self._longest_message or update.chunk_bytes) else self._longest_message

    def _patience(self, upload: _Upload) -> float:
        """Returns the seconds until the next offer, unless an event comes first."""
        if not upload.busy:
            return self._answer_seconds + _LIMITS.receipt_seconds
        # While chunks move, an offer is only the way out of a broker that swallowed one.
        return (
            2 * self._link.estimate.seconds(upload.window * upload.update.chunk_bytes) + _LIMITS.longest_offer_seconds
        )

    @property
    def _answer_seconds(self) -> float:
        """Returns the seconds that a short message and its answer may take, each of them behind a chunk or two."""
        link = self._link.estimate
        return link.latency + (_LIMITS.behind_chunks * CHUNK_SECONDS if link.is_slow else 0.0)

    def _current(self) -> list[_Upload]:
        return [upload for upload in self._uploads.values() if upload.update.run == self._coordinator.run]

    def _forget(self, updates: Iterable[UpdateId]) -> Effects:
        effects: Effects = []
        for update in updates:
            del self._uploads[update]
            effects.append(ForgetUpdate(update))
        return effects
