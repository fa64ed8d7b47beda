"""Holds the updates of one round: which have arrived, which will not come, and the mean so far.

Everything that changes the model goes through ``accept``: admission, then the spool and the journal, then
the sum. The order matters: an update is acknowledged only when a restart would find it again.

Who is in the round the round machine decides (``core/rounds/cohort``). In an asynchronous run an update may count only
in the next round (``early``): it is then kept on disk, and the updates of the next round take it from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from coordinator.run_context import RunContext
from fedlp_edge.core.algorithm import plausibility
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean, capacity_bits, capacity_of
from fedlp_edge.core.algorithm.resolution import WeightLimit, weight_limit
from fedlp_edge.core.algorithm.scaled_integers import Values
from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.device_scores import HeldOutScores, anomaly_thresholds, fleet_scores
from fedlp_edge.core.metrics.model_scores import NO_SCORES
from fedlp_edge.core.rounds.cohort import Cohort, Key
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.staleness import weight_in
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.reporting.round_accounting import Delivery, coverage, device_round
from fedlp_edge.reporting.summary import DeviceRound, Purpose, RoundSummary, Traffic
from fedlp_edge.storage.journal import UpdateRow
from fedlp_edge.system.files import move_into_place
from fedlp_edge.wire.admission import Admission, Expectation, admit_scores, exits_of
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.wire.messages import Offer
from fedlp_edge.worker.jobs import Evaluated


class AcceptedUpdate(msgspec.Struct, frozen=True):
    """What is kept of an update once it is accepted.

    Attributes:
        offer: Offer in which the device describes the update.
        bytes_up: Chunk bytes that arrived for it, headers and repeats included.
        counts_in: The round whose mean it is part of.
    """

    offer: Offer
    bytes_up: int
    counts_in: int


class UpdateVerdict(msgspec.Struct, frozen=True):
    """The final decision on a device's update for the round.

    Attributes:
        reason: Empty if its update was accepted.
        bytes_down: Model bytes that the device received for it, as it says.
        payload_down: Bytes of the blobs among them, without headers and repeats.
    """

    status: Literal["contributed", "rejected", "failed"]
    reason: str = ""
    bytes_down: int = 0
    payload_down: int = 0


class RoundUpdates:
    """The updates of the open round or, between two rounds, of the round that was committed last.

    Args:
        context: Context of the run.
        cohort: Cohort of the round, which the round machine keeps it up to date.
        capacity: Bound of the summed weights.
        closed: Whether the round is committed, so that only updates for the next round count.
    """

    def __init__(self, context: RunContext, cohort: Cohort, capacity: int, *, closed: bool = False) -> None:
        self.round = cohort.round
        self.cohort = cohort
        self.accepted: dict[str, AcceptedUpdate] = {}
        self.early: dict[str, AcceptedUpdate] = {}
        self._capacity = capacity
        self._verdicts: dict[Key, UpdateVerdict] = {}
        self._context = context
        self._blueprint = context.blueprint
        self._settings = context.config.rounds
        self._closed = closed
        self._admission = Admission(context.run, context.blueprint, context.config.limits, context.config.model.task)
        self._sizes: dict[str, plausibility.Sizes] = {}
        self._withdrawn: set[str] = set()
        self._heaviest: int | None = None
        self._mean = LayerwiseMean(capacity, statistics=context.blueprint.statistics)

    @property
    def given_up(self) -> frozenset[str]:
        """Ids of the devices whose update will not come."""
        return frozenset(key[0] for key, verdict in self._verdicts.items() if verdict.status != "contributed")

    @property
    def mean(self) -> LayerwiseMean:
        """Mean of the updates that count in this round and have been accepted so far."""
        return self._mean

    def scores(self) -> dict[str, dict[int, HeldOutScores]]:
        """Scores that the devices whose updates count have measured on their held-out samples, by device and depth.

        It is of the models that they started from. Who does not report, or holds out no sample, is missing.
        """
        task = self._context.config.model.task
        found = {}
        for device, update in sorted(self.accepted.items()):
            place = self._place(update.offer)
            exits = exits_of(self._blueprint, place.depth)
            if scores := admit_scores(update.offer.scores, task, exits, place.samples):
                found[device] = scores
        return found

    def extend(self, added: Sequence[CohortMember], capacity: int) -> None:
        """Journals the places that the machine has added; what was decided about these devices before is void.

        A larger capacity changes the scale of the sum, so what has arrived is added up again from the spool:
        the bits are then those of a round that had this capacity from the start.
        """
        newcomers = {place.device for place in added}
        for key in [key for key in self._verdicts if key[0] in newcomers and not self._is_here(key)]:
            del self._verdicts[key]
            self._context.journal.drop_update(key[1], key[0])
        self._context.journal.open_round(self.round, capacity, self.cohort.places)
        if capacity != self._capacity:
            self._sum_anew(capacity)

    def verdict(self, device: str, round: int) -> UpdateVerdict | None:
        """Returns the final decision on a device's update for its task of a round; None if there is none yet."""
        return self._verdicts.get((device, round))

    def check(self, offer: Offer) -> None:
        """Checks an offer before a byte of its update is asked for.

        Raises:
            RejectedUpdateError: The update is not the one that the device was asked for.
        """
        self._admission.check_offer(offer, offer.device, self._expectation(offer))

    def accept(self, offer: Offer, blob: Path, bytes_up: int, counts_in: int) -> AcceptedUpdate:
        """Admits the bytes of an update, makes them survive a restart, and adds them to the mean in which they count.

        Args:
            offer: Offer in which the device describes the update.
            blob: A file that has just been found to have the digest that was offered.
            bytes_up: Chunk bytes that arrived for it.
            counts_in: This round, or the next one.

        Raises:
            RejectedUpdateError: Admission refuses them; the refusal is journaled.
        """
        values = self._admit(offer, blob, verified=True)
        update = AcceptedUpdate(offer, bytes_up, counts_in)
        move_into_place(blob, self._context.directory.update(offer.round, offer.device), durable=False)
        row = UpdateRow(offer.round, offer.device, True, offer.digest, msgspec.json.encode(update))
        self._context.journal.put_update(row)
        self._count(update, values)
        return update

    def give_up(self, device: str, round: int, digest: str, verdict: UpdateVerdict) -> None:
        """Journals that a device's update is refused, or will not come."""
        self._verdicts[device, round] = verdict
        self._context.journal.put_update(UpdateRow(round, device, False, digest, msgspec.json.encode(verdict)))

    def deviations(self, weights: Mapping[str, Array]) -> dict[str, float]:
        """Returns how large each update that counts is beside the others (see ``plausibility``).

        Args:
            weights: Weights of the model that the round started from.
        """
        return plausibility.deviations(self._blueprint.global_units, weights, self._sizes)

    def withdraw(self, device: str, reason: str) -> Offer:
        """Takes an update out of the mean again; the sum is formed anew from the other updates on disk.

        Returns:
            What the device had offered.
        """
        offer = self.accepted[device].offer
        verdict = msgspec.json.encode(UpdateVerdict("rejected", reason))
        self._context.journal.overrule_update(UpdateRow(offer.round, device, False, offer.digest, verdict))
        self._context.directory.update(offer.round, device).unlink(missing_ok=True)
        self._withdrawn.add(device)
        del self.accepted[device], self._sizes[device]
        self._sum_anew(self._needed)
        return offer

    def settle(self, weights: Mapping[str, Array]) -> WeightLimit | None:
        """Gives the sum the scale of the updates that it holds, once no more can come.

        While a round is open, the scale leaves room for everybody who was invited, and what somebody announces who
        never delivers makes it coarser. What was delivered must not depend on that, down to the last bit. Where devices
        of very different weights make even this scale too coarse for some unit, the heaviest are made lighter.

        Rounds that overlap keep the scale that they began with: it has room for all tasks that are under way.

        Args:
            weights: Weights of the model that the round started from.

        Returns:
            The limit on what an update weighs, if one is needed.
        """
        if self._settings.mode == "buffered":
            return None
        before, self._heaviest = self._heaviest, None
        given = {device: self._weight(update.offer) for device, update in self.accepted.items()}
        units = self._blueprint.global_units
        limit = weight_limit(units, plausibility.sizes_of(units, weights), self._sizes, given)
        self._heaviest = limit.most if limit else None
        if self._heaviest != before or capacity_bits(self._needed) != capacity_bits(self._capacity):
            self._sum_anew(self._needed)
        return limit

    def replay(self) -> None:
        """Takes up what the journal knows of this round, and the updates in the spool."""
        for round in sorted({place.task_round(self.round) for place in self.cohort.places}):
            for row in self._context.journal.updates(round):
                if self.cohort.place(row.device, round):
                    self._take_up(row)

    def spent(self) -> list[Path]:
        """Returns the files of the counted updates, which are of no use once the round is committed."""
        return [self._context.directory.update(update.offer.round, device) for device, update in self.accepted.items()]

    def summary(
        self,
        seconds: float,
        judged: Evaluated | None,
        profiles: Mapping[str, str],
        traffic: Mapping[Purpose, Traffic],
        lost: Collection[str],
    ) -> RoundSummary:
        """Returns the round's entry for ``summary.json``.

        Args:
            seconds: Seconds that the round took.
            judged: Evaluation of the new model on held-out data, if there are any.
            profiles: Name of each device's class.
            traffic: Traffic since the round before.
            lost: Devices that were given up. In an asynchronous run others may still be at work, for later rounds.
        """
        excluded = self._withdrawn.union(lost)
        reported = {
            place.device: place
            for place in self.cohort.places
            if place.device in excluded or self._counts(self.cohort.key(place))
        }
        sent = {
            device: ({part.unit for part in update.offer.units}, self._weight(update.offer))
            for device, update in self.accepted.items()
        }
        scores = self.scores() if self._context.config.holdout_share else {}
        model = self._context.config.model
        central = judged.scores if judged else NO_SCORES
        return RoundSummary(
            round=self.round,
            seconds=seconds,
            answer=self._context.config.answer,
            accuracy=central.accuracy,
            loss=central.loss,
            metrics=central.metrics,
            exits=central.exits,
            ensemble=central.ensemble,
            warning=judged.warning if judged else "",
            on_devices=fleet_scores(self._context.config.model.task, scores),
            thresholds=anomaly_thresholds(model.anomaly_quantile, scores) if model.task == "anomaly" else {},
            not_reporting=len(self.accepted) - len(scores) if self._context.config.holdout_share else 0,
            devices=tuple(
                self._device_round(reported[device], profiles.get(device, "")) for device in sorted(reported)
            ),
            coverage=coverage(self._blueprint, sent),
            traffic=dict(traffic),
        )

    @property
    def _needed(self) -> int:
        """Returns the capacity for the updates that count, and no others."""
        if self._settings.mode == "buffered":
            return self._capacity
        return capacity_of(self._weight(update.offer) for update in self.accepted.values())

    def _sum_anew(self, capacity: int) -> None:
        """Forms the sum again from the updates on disk."""
        self._capacity = capacity
        self._mean = LayerwiseMean(capacity, statistics=self._blueprint.statistics)
        self.accepted.clear()
        self._sizes.clear()
        self.replay()

    def _counts(self, key: Key) -> bool:
        update = self.accepted.get(key[0])
        return update is not None and update.offer.round == key[1]

    def _is_here(self, key: Key) -> bool:
        early = self.early.get(key[0])
        return self._counts(key) or (early is not None and early.offer.round == key[1])

    def _device_round(self, place: CohortMember, profile: str) -> DeviceRound:
        units, key = self._blueprint.exchanged_by(place.depth), self.cohort.key(place)
        if not self._counts(key):
            verdict = self._verdicts.get(key)
            lack = "lost" if verdict is None or verdict.status == "contributed" else verdict.status
            verdict = verdict or UpdateVerdict("failed")
            return device_round(
                place,
                profile,
                units,
                lack,
                bytes_down=verdict.bytes_down,
                payload_down=verdict.payload_down,
                reason=verdict.reason,
            )
        update = self.accepted[place.device]
        offer = update.offer
        delivery = Delivery(
            sent=self._drawn(place),
            samples=offer.samples,
            weight=self._weight(offer),
            loss=offer.loss,
            seconds=offer.seconds,
            bytes_down=offer.bytes_down,
            bytes_up=update.bytes_up,
            payload_down=offer.payload_down,
            payload_up=offer.size,
            compute=offer.compute,
        )
        return device_round(place, profile, units, delivery, staleness=self.round - offer.round)

    def _take_up(self, row: UpdateRow) -> None:
        if not row.accepted:
            self._verdicts[row.device, row.round] = msgspec.json.decode(row.report, type=UpdateVerdict)
            return
        update = msgspec.json.decode(row.report, type=AcceptedUpdate)
        if self._closed and update.counts_in <= self.round:
            self.accepted[row.device] = update  # its bytes have served
            return
        try:
            values = self._admit(update.offer, self._context.directory.update(row.round, row.device))
        except (RejectedUpdateError, OSError):
            # The machine lost power before the bytes were on disk; the device will be asked again.
            self._context.journal.drop_update(row.round, row.device)
            return
        self._count(update, values)

    def _expectation(self, offer: Offer) -> Expectation:
        place = self._place(offer)
        return Expectation(place.device, offer.round, place.depth, place.samples, self._drawn(place), place.encoding)

    def _place(self, offer: Offer) -> CohortMember:
        place = self.cohort.place(offer.device, offer.round)
        if place is None:
            raise ValueError(f"{offer.device} has no task of round {offer.round}")
        return place

    def _drawn(self, place: CohortMember) -> dict[str, tuple[str, ...]]:
        return draw_sent_tensors(
            self._blueprint.exchanged_by(place.depth),
            lpr=place.lpr,
            lpr_of=place.lpr_of,
            seed=self._context.config.seed,
            round=place.task_round(self.round),
            device=place.device,
            granularity=self._context.config.scheme.granularity,
        )

    def _admit(self, offer: Offer, blob: Path, *, verified: bool = False) -> Mapping[str, Values]:
        # Mapped, since the bytes are in memory already as pages of the file.
        return self._admission.admit(offer, mapped(blob), self._expectation(offer), verified=verified).values

    def _count(self, update: AcceptedUpdate, values: Mapping[str, Values]) -> None:
        offer = update.offer
        if update.counts_in == self.round:
            self._mean.add(values, self._weight(offer))
            self.accepted[offer.device] = update
            depth = self._place(offer).depth
            self._sizes[offer.device] = plausibility.sizes_of(self._blueprint.exchanged_by(depth), values)
        else:
            self.early[offer.device] = update
        self._verdicts[offer.device, offer.round] = UpdateVerdict("contributed")

    def _weight(self, offer: Offer) -> int:
        plain = 1 if self._context.config.scheme.weights == "uniform" else min(offer.samples, self._most(offer))
        return weight_in(self._settings, plain, offer.round, self.round)

    def _most(self, offer: Offer) -> int:
        weight = self._place(offer).weight
        return weight if self._heaviest is None else min(weight, self._heaviest)
