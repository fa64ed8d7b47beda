"""Devices that lie, in a fleet of honest ones: a named rejection, and the model of the honest ones alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fedlp_edge.reporting.events import DeviceJoined, UpdateRejected
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.transport.base import Received
from fedlp_edge.wire.messages import Decoder, FromDevice, Offer, Status, UnitPayload, encode
from fedlp_edge.wire.tensors import pack_file
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Evaluated, Failed, Train, Trained
from tests.fleets.standin import StandIn
from tests.fleets.virtual import Tamper, VirtualFleet  # type: ignore[attr-defined]

LIAR = "dev-2"
read = Decoder[FromDevice](FromDevice, 1 << 20)


class Failing(StandIn):
    """Takes no part, so that the others' model can be had."""

    def _do(self, job: AnyJob) -> AnyResult:
        return Failed(kind="data", reason="no data") if isinstance(job, Train) else super()._do(job)


class Poisoned(StandIn):
    """Sends what is not a number."""

    value = np.nan

    def _do(self, job: AnyJob) -> AnyResult:
        result = super()._do(job)
        if isinstance(result, Trained) and isinstance(job, Train):
            for unit, names in job.sent.items():
                deltas = {name: np.full(600, self.value, np.float32) for name in names}
                pack_file(deltas, Path(job.delta_dir) / f"{unit}.safetensors")
        return result


class Infinite(Poisoned):
    value = np.inf


class Gigantic(Poisoned):
    value = 1e30


class Enormous(Poisoned):
    """Stays below the limit of a value, and would decide what becomes of the model."""

    value = 2.0**19


class Boastful(Failing):
    """Says that it has more samples than all the others together could ever have, and delivers nothing."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **(settings | {"samples": 10**8}))


class Untaught(StandIn):
    """Judges with data that lack the class which one device alone teaches: the loss is absurd, that of the rest not."""

    def _do(self, job: AnyJob) -> AnyResult:
        result = super()._do(job)
        if not isinstance(result, Evaluated):
            return result
        absurd, usual = dict.fromkeys(result.exit_loss, 1000.0), dict.fromkeys(result.exit_loss, 0.7)
        scores = msgspec.structs.replace(result.scores, loss=absurd)
        return msgspec.structs.replace(result, scores=scores, exit_loss=usual)


class Emphatic(Poisoned):
    """The largest update by far, and still a plausible one."""

    value = 5.0


def offers(change: Callable[[Offer], Offer]) -> Tamper:
    """Changes every offer that a device makes."""

    def tamper(topic: str, payload: bytes) -> bytes:
        if "/up/" not in topic:
            return payload
        message = read(payload)
        return encode(change(message)) if isinstance(message, Offer) else payload

    return tamper


def replaced(**changes: object) -> Tamper:
    return offers(lambda offer: msgspec.structs.replace(offer, **changes))


def other_units(offer: Offer) -> Offer:
    renamed = {"L1": "L2", "H1": "H2"}
    return msgspec.structs.replace(
        offer, units=tuple(UnitPayload(renamed[part.unit], part.offset, part.size) for part in offer.units)
    )


def fewer_units(offer: Offer) -> Offer:
    return msgspec.structs.replace(offer, units=offer.units[:1], size=offer.units[0].size)


def larger_units(offer: Offer) -> Offer:
    *others, last = offer.units
    return msgspec.structs.replace(
        offer, units=(*others, UnitPayload(last.unit, last.offset, 10**10)), size=last.offset + 10**10
    )


def run(directory: Path, **changes: object) -> tuple[VirtualFleet, Summary]:
    fleet = VirtualFleet(directory, devices=3, rounds=2, **changes)  # type: ignore[arg-type]
    fleet.start_all()
    return fleet, fleet.finish()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """The run in which the liar's place stays empty."""
    return run(tmp_path_factory.mktemp("honest"), worker={LIAR: Failing})[1]


def check(fleet: VirtualFleet, summary: Summary, honest: Summary, code: str) -> None:
    """Both rounds refuse the liar for this reason, and nobody's bytes but the others' are in the model."""
    assert summary.final == honest.final
    rejected = [event for event in fleet.events if isinstance(event, UpdateRejected)]
    assert {(event.device, event.code) for event in rejected} == {(LIAR, code)}
    assert [event.round for event in rejected] == [1, 2]
    for entry in summary.rounds:
        assert {device.id: device.status for device in entry.devices} == {
            "dev-0": "contributed",
            "dev-1": "contributed",
            LIAR: "rejected",
        }
    assert list((fleet.run / "spool").iterdir()) == []
    assert fleet.world.now < 30


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (offers(other_units), "units"),
        (
            offers(lambda offer: msgspec.structs.replace(offer, units=offer.units[:1], size=offer.units[0].size)),
            "units",
        ),
        (offers(larger_units), "size"),
        (replaced(size=10**10), "size"),
        (replaced(samples=10**9), "samples"),
        (replaced(samples=0), "samples"),
        (replaced(seconds=-1.0), "figures"),
    ],
    ids=["other-layers", "fewer-layers", "layer-of-10-GB", "update-of-10-GB", "many-samples", "no-samples", "no-time"],
)
def test_offer_that_lies_is_refused_before_a_byte_of_it_is_asked_for(
    tmp_path: Path, honest: Summary, tamper: Tamper, code: str
) -> None:
    fleet, summary = run(tmp_path, tamper={LIAR: tamper})

    check(fleet, summary, honest, code)
    assert not any("upload" in step for step in fleet.steps(LIAR))


@pytest.mark.parametrize(("worker", "code"), [(Poisoned, "not-finite"), (Infinite, "not-finite"), (Gigantic, "value")])
def test_update_of_impossible_values_is_refused(
    tmp_path: Path, honest: Summary, worker: type[StandIn], code: str
) -> None:
    fleet, summary = run(tmp_path, worker={LIAR: worker})

    check(fleet, summary, honest, code)


def test_update_far_larger_than_the_others_is_left_out_of_the_model(tmp_path: Path, honest: Summary) -> None:
    fleet, summary = run(tmp_path, worker={LIAR: Enormous})

    check(fleet, summary, honest, "implausible")


def test_samples_that_are_announced_and_never_delivered_take_nothing_from_the_others(
    tmp_path: Path, honest: Summary, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, summary = run(tmp_path / "boastful", worker={LIAR: Boastful})
    quiet, _ = run(tmp_path / "quiet", worker={LIAR: Failing})

    ours, theirs = (Checkpoints(one.run / "checkpoints").load(2)[0] for one in (fleet, quiet))
    first = Checkpoints(fleet.run / "checkpoints").load(0)[0]
    assert all(not np.array_equal(ours[name], first[name]) for name in ours)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert summary.final == honest.final
    assert "says that it has 100000000 samples, far more than others: it counts as 2000 at most" in caplog.text


def test_loss_of_a_class_that_the_test_set_lacks_makes_nobody_a_culprit(tmp_path: Path) -> None:
    _, summary = run(tmp_path, worker={LIAR: Emphatic, "coordinator": Untaught})

    assert {device.status for entry in summary.rounds for device in entry.devices} == {"contributed"}
    assert {value for entry in summary.rounds for value in entry.loss.values()} == {1000.0}


def test_update_with_other_bytes_than_it_promised_is_never_counted(tmp_path: Path, honest: Summary) -> None:
    """The digest never comes right, however often the chunks are asked for: the round ends without it."""
    _, summary = run(tmp_path, tamper={LIAR: replaced(digest="0" * 64)}, deadline_seconds=20.0)

    assert summary.final == honest.final
    assert {d.status for entry in summary.rounds for d in entry.devices if d.id == LIAR} == {"lost"}


def test_replayed_update_of_an_old_round_is_told_to_be_stale(tmp_path: Path) -> None:
    undisturbed, expected = run(tmp_path / "undisturbed")
    first: dict[str, Offer] = {}
    stale: list[int] = []

    def replay(offer: Offer) -> Offer:
        return first.setdefault("offer", offer) if offer.round == 1 or not stale else offer

    fleet = VirtualFleet(tmp_path / "replayed", devices=3, rounds=2, tamper={LIAR: offers(replay)})

    def listen(event: object) -> None:
        if isinstance(event, Received) and b'"stale"' in event.payload:
            stale.append(1)

    ear = fleet.world.hub.transport("ear")
    ear.subscribe(f"fedlp/virtual/down/{LIAR}")
    ear.start(listen)
    fleet.start_all()
    summary = fleet.finish()

    assert stale
    assert summary.final == expected.final
    assert summary.rounds[1].coverage == expected.rounds[1].coverage
    assert undisturbed.names == fleet.names


def test_messages_in_the_name_of_another_device_are_ignored(tmp_path: Path) -> None:
    _, expected = run(tmp_path / "undisturbed")
    forged = {"device": "dev-1", "session": "9999"}
    fleet = VirtualFleet(tmp_path / "forged", devices=3, rounds=2)
    forger = fleet.world.hub.transport("forger")
    told: list[bytes] = []

    def forge(event: object) -> None:
        if isinstance(event, Received) and "/up/dev-0" in event.topic:
            told.append(event.payload)
            message = {**msgspec.json.decode(event.payload), **forged}
            forger.publish("fedlp/virtual/up/dev-0", msgspec.json.encode(message))
            forger.publish("fedlp/virtual/up/nobody", event.payload)

    forger.subscribe("fedlp/virtual/up/dev-0")
    forger.start(lambda event: forge(event) if len(told) < 40 else None)
    fleet.start_all()
    summary = fleet.finish()

    assert told
    assert summary.final == expected.final
    assert [entry.coverage for entry in summary.rounds] == [entry.coverage for entry in expected.rounds]


@pytest.mark.parametrize("figure", [2**53, 0])
def test_absurd_figures_of_a_device_bend_no_plan_and_no_time_of_the_others(
    tmp_path: Path, honest: Summary, figure: int
) -> None:
    read_status = Decoder[Status](Status, 1 << 20)

    def absurd(topic: str, payload: bytes) -> bytes:
        if "/device/" not in topic:
            return payload
        status = read_status(payload)
        if not isinstance(status, Status) or status.facts is None:
            return payload
        rate = 1e300 if figure else 1e-300
        facts = msgspec.structs.replace(
            status.facts,
            training_memory=figure or 10**9,
            memory_total=figure,
            cores=rate,
            load=rate,
            training_macs_per_second=rate,
            link_bytes_per_second=rate,
            samples=figure,
        )
        return encode(msgspec.structs.replace(status, facts=facts))

    fleet, summary = run(tmp_path, worker={LIAR: Failing}, tamper={LIAR: absurd})

    assert summary.final == honest.final
    plans = {e.device: (e.depth, e.lpr) for e in fleet.events if isinstance(e, DeviceJoined) and e.device != LIAR}
    assert plans == {"dev-0": (1, 1.0), "dev-1": (2, 1.0)}
    assert fleet.world.now < 30
