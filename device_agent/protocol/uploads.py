"""Bringing finished updates to the coordinator: offer, grant, chunks, receipt. Pure.

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
from device_agent.protocol.link_estimate import LinkEstimate, shown_rate
from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.core.seeds import uniform
from fedlp_edge.wire.chunks import CHUNK_SECONDS, expand
from fedlp_edge.wire.messages import Grant, Receipt

_LIMITS = LIMITS.uploads


@dataclass
class _Delivery:
    update: Update
    offer_at: float
    patience: float = _LIMITS.offer_seconds
    offers: int = 0
    heard: int = 0
    waiting: deque[int] = field(default_factory=deque)
    in_flight: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    vain_grants: int = 0
    window: int = 1
    began: float | None = None
    last_at: float = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.in_flight)

    @property
    def can_send(self) -> bool:
        return bool(self.waiting) and len(self.in_flight) < self.window

    def shown_rate(self, now: float) -> float | None:
        """Bytes per second that the broker took of it; None if that says nothing."""
        if self.began is None:
            return None
        sent = min((len(self.acknowledged) + len(self.in_flight)) * self.update.chunk_bytes, self.update.size)
        return shown_rate(sent, (now if self.in_flight else self.last_at) - self.began)


class Uploads:
    """All updates of this device that no receipt has settled.

    Args:
        identity: of the agent.
        coordinator: says whether there is one, and of which run; nothing is offered or sent while none is there.
        updates: left in the outbox by an earlier life; offered once the coordinator of their run is there.
        link_bytes_per_second: uploads stay below it; None for as fast as the broker takes them.

    Attributes:
        link: what is known of it.
        shown_rate: of the link, in a round that ended before the update had gone.
    """

    def __init__(
        self,
        identity: Identity,
        coordinator: CoordinatorPresence,
        updates: Iterable[Update] = (),
        link_bytes_per_second: float | None = None,
    ) -> None:
        self._identity = identity
        self._coordinator = coordinator
        self._topic = identity.topics.of("up", identity.device)
        self.link = LinkEstimate()
        self.shown_rate: float | None = None
        self._pace = link_bytes_per_second
        self._link_free_at = -math.inf
        self._most: int | None = None
        self._all = {update.id: _Delivery(update, offer_at=-math.inf) for update in updates}

    def find(self, fingerprint: str) -> Update | None:
        """The update that answers this task, if it is already trained."""
        return next((d.update for d in self._all.values() if d.update.fingerprint == fingerprint), None)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a receipt."""
        return not self._current()

    def next_wakeup(self) -> float | None:
        """When ``poll`` has something to do, unless an event comes first."""
        times = [delivery.offer_at for delivery in self._current()]
        if any(delivery.can_send for delivery in self._current()):
            times.append(self._link_free_at)
        return min(times, default=None)

    def add(self, update: Update, now: float) -> Effects:
        """Takes up an update (again) and offers it at once; older ones of the same round are forgotten."""
        others = [i for i in self._all if i[:2] == update.id[:2] and i != update.id]
        self._all[update.id] = _Delivery(update, offer_at=now)
        return [*self._forget(others), *self.poll(now)]

    def coordinator_came(self, now: float) -> Effects:
        """Offers everything anew, since a coordinator is there (again); what belongs to another run is forgotten."""
        others = [update for update in self._all if update.run != self._coordinator.run]
        for delivery in self._all.values():
            delivery.offer_at, delivery.patience, delivery.heard = now, _LIMITS.offer_seconds, 0
            delivery.waiting.clear()
        return [*self._forget(others), *self.poll(now)]

    def limit(self, most: int | None) -> None:
        """Says how many payload bytes the broker carries in a message; None for any number."""
        if most is not None:
            self._most = min(most, self._most or most)

    def grant(self, message: Grant, now: float) -> Effects:
        """Sends what the coordinator asks for, after what it asked for before."""
        delivery = self._all.get(UpdateId(message.run, message.round, message.digest))
        if delivery is None:
            return []
        delivery.heard = message.number
        # What is in flight the transport will bring, even over a reconnect.
        known = delivery.in_flight.union(delivery.waiting)
        wanted = [i for i in expand(message.missing, delivery.update.chunk_count) if i not in known]
        effects = self._suspect(delivery, wanted)
        delivery.waiting.extend(wanted)
        delivery.began = now if delivery.began is None else delivery.began
        delivery.window = self.link.window(delivery.update.chunk_bytes, message.window)
        delivery.patience = _LIMITS.receipt_seconds
        delivery.offer_at = now + self._patience(delivery)
        return [*effects, *self.poll(now)]

    def delivered(self, update: UpdateId, index: int, now: float) -> Effects:
        """The broker took a chunk; the next one may go."""
        delivery = self._all.get(update)
        if delivery is None or index not in delivery.in_flight:
            return []
        delivery.in_flight.remove(index)
        delivery.acknowledged.add(index)
        delivery.last_at = now
        delivery.offer_at = now + self._patience(delivery)
        return self.poll(now)

    def refused(self, update: UpdateId, index: int, now: float) -> Effects:
        """The broker does not carry a chunk as it was: it goes again, as short as messages now must be."""
        delivery = self._all.get(update)
        if delivery is None or index not in delivery.in_flight:
            return []
        delivery.in_flight.remove(index)
        if self._most is not None:
            delivery.waiting.appendleft(index)
        return self.poll(now)

    def receipt(self, message: Receipt, now: float) -> Effects:
        """The final word on an update."""
        update = UpdateId(message.run, message.round, message.digest)
        delivery = self._all.get(update)
        if delivery is None:
            return []
        if message.state == "stale":
            self.shown_rate = delivery.shown_rate(now)
        if message.state == "accepted":
            note = Log(f"round {message.round}: update accepted")
        else:
            note = Log(f"round {message.round}: update {message.state}: {message.reason or 'no reason given'}", True)
        return [note, *self._forget([update])]

    def drop_run(self, run: str) -> Effects:
        """Forgets the updates of a run that is over."""
        return self._forget([update for update in self._all if update.run == run])

    def poll(self, now: float) -> Effects:
        """Offers and sends what is due."""
        effects: Effects = []
        for delivery in self._current():
            if delivery.offer_at <= now:
                effects.append(Publish(self._topic, delivery.update.offer(self._identity.session, delivery.heard)))
                delivery.offers += 1
                later = _LIMITS.offer_spread * uniform("offer", self._identity.device, delivery.offers)
                delivery.offer_at = now + self._answer_seconds + delivery.patience * (1 + later)
                delivery.patience = min(2 * delivery.patience, _LIMITS.longest_offer_seconds)
            while delivery.can_send and self._link_free_at <= now:
                index = delivery.waiting.popleft()
                delivery.in_flight.add(index)
                effects.append(SendChunk(delivery.update.id, index, self._piece_bytes(delivery.update)))
                if self._pace:
                    self._link_free_at = max(now, self._link_free_at) + delivery.update.chunk_bytes / self._pace
        return effects

    def _suspect(self, delivery: _Delivery, wanted: list[int]) -> Effects:
        """Takes chunks that are wanted again and again, though the broker has acknowledged them, for too long ones."""
        if not wanted or not delivery.acknowledged.issuperset(wanted):
            delivery.vain_grants = 0
            return []
        delivery.vain_grants += 1
        usual = min(self._most or delivery.update.chunk_bytes, delivery.update.chunk_bytes)
        if delivery.vain_grants < _LIMITS.repeated_grants or usual <= _LIMITS.least_piece_bytes:
            return []
        delivery.vain_grants = 0
        self._most = max(_LIMITS.least_piece_bytes, usual // 4)
        text = (
            f"messages of {usual} bytes are acknowledged by the broker and do not arrive; they go in pieces of "
            f"{self._most} from here on (fedlp doctor broker finds its limit: max_packet_bytes in [broker])"
        )
        return [Log(text, warning=True)]

    def _piece_bytes(self, update: Update) -> int | None:
        """Of the pieces of its chunks, which were cut before the broker's limit or the link was known; None for one."""
        suited = self.link.chunk_bytes(update.chunk_bytes)
        return suited if suited < (self._most or update.chunk_bytes) else self._most

    def _patience(self, delivery: _Delivery) -> float:
        """Seconds until the next offer, unless an event comes first."""
        if not delivery.busy:
            return self._answer_seconds + _LIMITS.receipt_seconds
        # While chunks move, an offer is only the way out of a broker that swallowed one.
        return 2 * self.link.seconds(delivery.window * delivery.update.chunk_bytes) + _LIMITS.longest_offer_seconds

    @property
    def _answer_seconds(self) -> float:
        """That a short message and its answer may take, each of them behind a chunk or two."""
        return self.link.latency + (_LIMITS.behind_chunks * CHUNK_SECONDS if self.link.is_slow else 0.0)

    def _current(self) -> list[_Delivery]:
        return [delivery for delivery in self._all.values() if delivery.update.run == self._coordinator.run]

    def _forget(self, updates: Iterable[UpdateId]) -> Effects:
        effects: Effects = []
        for update in updates:
            del self._all[update]
            effects.append(ForgetUpdate(update))
        return effects
