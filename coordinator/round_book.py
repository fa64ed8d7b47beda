"""One open round: what each device owes, what has arrived, and the mean so far.

Everything that changes the model goes through ``accept``: admission, then the spool and the journal, then
the sum. The order matters: an update is acknowledged only when a restart would find it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from fedlp_edge.core.accounting import parameters, parameters_sent
from fedlp_edge.core.aggregation import Array, LayerwiseMean
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.rounds import OpenRound, Participant
from fedlp_edge.core.selection import retained
from fedlp_edge.core.settings import SchemeSettings
from fedlp_edge.errors import RejectedUpdate
from fedlp_edge.reporting.summary import DeviceRound, Purpose, RoundSummary, Traffic
from fedlp_edge.storage.journal import Journal, UpdateRow
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.admission import Admission, Expectation
from fedlp_edge.wire.messages import Offer
from fedlp_edge.wire.spans import mapped


class AcceptedUpdate(msgspec.Struct, frozen=True):
    """What stays of an update once it is counted.

    Attributes:
        offer: the device's words.
        bytes_up: chunk bytes that arrived for it, headers and repeats included.
    """

    offer: Offer
    bytes_up: int


class Verdict(msgspec.Struct, frozen=True):
    """The final word on a device's part in the round; ``reason`` is empty if its update was accepted."""

    status: Literal["contributed", "rejected", "failed"]
    reason: str = ""


class RoundBook:
    """The open round.

    Args:
        opened: as the state machine opened it.
        run: name of the run.
        seed: of the run.
        blueprint: of the model.
        scheme: for draws and weights.
        directory: with the spool.
        journal: for what a restart must know.
    """

    def __init__(
        self,
        opened: OpenRound,
        *,
        run: str,
        seed: int,
        blueprint: Blueprint,
        scheme: SchemeSettings,
        directory: RunDirectory,
        journal: Journal,
    ) -> None:
        self.round = opened.round
        self._capacity = opened.weight_capacity
        self.participants: dict[str, Participant] = {p.device: p for p in opened.participants}
        self.accepted: dict[str, AcceptedUpdate] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._run = run
        self._seed = seed
        self._blueprint = blueprint
        self._scheme = scheme
        self._directory = directory
        self._journal = journal
        self._admission = Admission(run, blueprint)
        self._mean = LayerwiseMean(opened.weight_capacity)

    def extend(self, added: tuple[Participant, ...], capacity: int) -> None:
        """Takes further devices into the cohort, or gives one whose update was missed a new place.

        A larger capacity changes the scale of the sum, so what has arrived is added up again from the spool:
        the bits are then those of a round that had this capacity from the start.
        """
        self.participants.update({p.device: p for p in added})
        for place in added:
            self._verdicts.pop(place.device, None)
            self._journal.drop_update(self.round, place.device)
        self._journal.open_round(self.round, capacity, tuple(self.participants.values()))
        if capacity != self._capacity:
            self._capacity = capacity
            self._mean = LayerwiseMean(capacity)
            self.replay()

    def verdict(self, device: str) -> Verdict | None:
        """The final word on a device's update, if there is one."""
        return self._verdicts.get(device)

    def check(self, offer: Offer) -> None:
        """Refuses an offer before a byte of it is asked for.

        Raises:
            RejectedUpdate: it is not what the device owes.
        """
        self._admission.check_offer(offer, offer.device, self._expectation(offer.device))

    def accept(self, offer: Offer, blob: Path, bytes_up: int) -> AcceptedUpdate:
        """Admits the bytes, makes them survive a restart, and adds them to the mean.

        Args:
            offer: the device's words.
            blob: a file that has just been found to have the digest that was offered.
            bytes_up: chunk bytes that arrived for it.

        Raises:
            RejectedUpdate: admission refuses them; the refusal is journaled.
        """
        deltas = self._admit(offer, blob, verified=True)
        update = AcceptedUpdate(offer, bytes_up)
        blob.replace(self._directory.update(self.round, offer.device))
        row = UpdateRow(self.round, offer.device, True, offer.digest, msgspec.json.encode(update))
        self._journal.put_update(row)
        self._count(update, deltas)
        return update

    def give_up(self, device: str, digest: str, verdict: Verdict) -> None:
        """Journals that a device's update is refused, or will not come."""
        self._verdicts[device] = verdict
        self._journal.put_update(UpdateRow(self.round, device, False, digest, msgspec.json.encode(verdict)))

    def replay(self) -> None:
        """Takes up what the journal knows of this round after a restart."""
        for row in self._journal.updates(self.round):
            if not row.accepted:
                self._verdicts[row.device] = msgspec.json.decode(row.report, type=Verdict)
                continue
            update = msgspec.json.decode(row.report, type=AcceptedUpdate)
            try:
                deltas = self._admit(update.offer, self._directory.update(self.round, row.device))
            except (RejectedUpdate, OSError):
                # The machine lost power before the bytes were on disk; the device will be asked again.
                self._journal.drop_update(self.round, row.device)
                continue
            self._count(update, deltas)

    @property
    def mean(self) -> LayerwiseMean:
        """Of what has been accepted so far."""
        return self._mean

    def summary(
        self,
        seconds: float,
        accuracy: Mapping[int, float],
        profiles: Mapping[str, str],
        traffic: Mapping[Purpose, Traffic],
    ) -> RoundSummary:
        """The round as ``summary.json`` tells it."""
        devices = tuple(self._device(self.participants[d], profiles.get(d, "")) for d in sorted(self.participants))
        coverage = {
            unit.id: {
                device: self._weight(update.offer)
                for device, update in sorted(self.accepted.items())
                if any(part.unit == unit.id for part in update.offer.units)
            }
            for unit in self._blueprint.global_units
        }
        return RoundSummary(
            round=self.round,
            seconds=seconds,
            accuracy=dict(accuracy),
            devices=devices,
            coverage=coverage,
            traffic=dict(traffic),
        )

    def _device(self, place: Participant, profile: str) -> DeviceRound:
        owed = DeviceRound(
            id=place.device,
            profile=profile,
            depth=place.depth,
            lpr=place.lpr,
            status="lost",
            encoding=place.encoding,
        )
        units = self._blueprint.exchanged_by(place.depth)
        update = self.accepted.get(place.device)
        if update is None:
            verdict = self._verdicts.get(place.device)
            down = parameters(units)
            return msgspec.structs.replace(owed, status=verdict.status if verdict else "lost", params_down=down)
        offer = update.offer
        return msgspec.structs.replace(
            owed,
            status="contributed",
            layers_sent=tuple(part.unit for part in offer.units),
            samples=offer.samples,
            loss=offer.loss,
            seconds=offer.seconds,
            params_down=parameters(units),
            params_up=parameters_sent(units, self._expectation(place.device).retained),
            bytes_down=offer.bytes_down,
            bytes_up=update.bytes_up,
        )

    def _expectation(self, device: str) -> Expectation:
        place = self.participants[device]
        kept = retained(
            self._blueprint.exchanged_by(place.depth),
            lpr=place.lpr,
            lpr_of=place.lpr_of,
            seed=self._seed,
            round=self.round,
            device=device,
            granularity=self._scheme.granularity,
        )
        return Expectation(device, self.round, place.depth, place.samples, kept, place.encoding)

    def _admit(self, offer: Offer, blob: Path, *, verified: bool = False) -> Mapping[str, Array]:
        expected = self._expectation(offer.device)
        # Mapped, since the bytes are in memory already as pages of the file.
        return self._admission.admit(offer, mapped(blob), expected, verified=verified).deltas

    def _count(self, update: AcceptedUpdate, deltas: Mapping[str, Array]) -> None:
        self._mean.add(deltas, self._weight(update.offer))
        self.accepted[update.offer.device] = update
        self._verdicts[update.offer.device] = Verdict("contributed")

    def _weight(self, offer: Offer) -> int:
        return 1 if self._scheme.weights == "uniform" else offer.samples
