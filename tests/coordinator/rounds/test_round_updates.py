from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.rounds.round_updates import RoundUpdates, UpdateVerdict
from fedlp_edge.core.metrics.model_scores import ModelScores
from fedlp_edge.core.rounds.cohort import Cohort
from fedlp_edge.core.rounds.events import CohortMember, OpenRound
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import SchemeSettings
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.reporting.summary import Purpose, Traffic
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.compression import encode_unit
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import UnitPayload
from fedlp_edge.worker.jobs import Evaluated
from tests.coordinator.fleets import NAMES, run_context, tiny_blueprint, update

PLACES = (CohortMember("a", 2, 1.0, 10, 10), CohortMember("b", 1, 1.0, 30, 30))


def cohort_of(opened: OpenRound) -> Cohort:
    return Cohort(opened.round, opened.cohort)


def extend(to: RoundUpdates, added: tuple[CohortMember, ...], capacity: int) -> None:
    """Adds places as the machine does, and takes them in."""
    here = [*to.accepted.values(), *to.early.values()]
    delivered = [to.cohort.place(update.offer.device, update.offer.round) for update in here]
    to.cohort.add(added, [place for place in delivered if place])
    to.extend(added, capacity)


def updates(directory: Path, *, weights: str = "samples", capacity: int = 80) -> RoundUpdates:
    run = RunDirectory.open(directory)
    journal = Journal.open(run.journal)
    opened = journal.unfinished_round() or OpenRound(1, PLACES, capacity)
    journal.open_round(1, opened.weight_capacity, opened.cohort)
    scheme = SchemeSettings(weights=weights)  # type: ignore[arg-type]
    return RoundUpdates(run_context(run, journal, scheme=scheme), cohort_of(opened), opened.weight_capacity)


def deliver(
    to: RoundUpdates,
    directory: Path,
    device: str,
    deltas: dict[str, float],
    samples: int,
    *,
    round: int = 1,
    counts_in: int = 1,
) -> None:
    offer, blob = update(device, deltas, samples=samples, round=round)
    path = directory / f"{device}.part"
    path.write_bytes(blob)
    to.check(offer)
    to.accept(offer, path, len(blob) + 36, counts_in)


def deliver_both(to: RoundUpdates, directory: Path) -> None:
    deliver(to, directory, "a", {"L1": 1.0, "L2": 2.0, "H2": 3.0}, 10)
    deliver(to, directory, "b", {"L1": 5.0, "H1": 7.0}, 30)


def test_averages_each_unit_over_the_devices_that_sent_it(tmp_path: Path) -> None:
    round = updates(tmp_path)
    deliver_both(round, tmp_path)
    means = {name: mean.tolist() for name, mean in round.mean.means().items()}
    assert means == {
        NAMES["L1"]: [4.0, 4.0],  # (10 * 1 + 30 * 5) / 40
        NAMES["L2"]: [2.0, 2.0],
        NAMES["H2"]: [3.0, 3.0],
        NAMES["H1"]: [7.0, 7.0],
    }


def test_takes_an_update_in_the_encoding_that_its_place_asks_for(tmp_path: Path) -> None:
    journal = Journal.open(RunDirectory.open(tmp_path).journal)
    journal.open_round(1, 80, (CohortMember("b", 1, 1.0, 30, 30, encoding="fp16"),))
    journal.close()
    round = updates(tmp_path)
    blueprint = tiny_blueprint()
    parts = {
        unit: encode_unit(blueprint.by_id[unit].tensors, {NAMES[unit]: np.full(2, value, np.float32)}, "fp16")
        for unit, value in {"L1": 5.0, "H1": 7.0}.items()
    }
    blob = b"".join(parts.values())
    offer = msgspec.structs.replace(
        update("b", {"L1": 5.0, "H1": 7.0}, samples=30)[0],
        digest=digest_of(blob),
        size=len(blob),
        units=(UnitPayload("L1", 0, len(parts["L1"])), UnitPayload("H1", len(parts["L1"]), len(parts["H1"]))),
    )
    path = tmp_path / "b.part"
    path.write_bytes(blob)
    round.check(offer)
    round.accept(offer, path, len(blob), 1)
    after = updates(tmp_path)
    after.replay()
    for taken in (round, after):
        assert {name: mean.tolist() for name, mean in taken.mean.means().items()} == {
            NAMES["L1"]: [5.0, 5.0],
            NAMES["H1"]: [7.0, 7.0],
        }
        assert [device.encoding for device in taken.summary(1.0, None, {}, {}, ()).devices] == ["fp16"]


def test_weighs_all_devices_alike_when_told_so(tmp_path: Path) -> None:
    round = updates(tmp_path, weights="uniform")
    deliver_both(round, tmp_path)
    assert round.mean.means()[NAMES["L1"]].tolist() == [3.0, 3.0]


def test_replays_to_the_same_bits_after_a_restart(tmp_path: Path) -> None:
    before = updates(tmp_path)
    deliver(before, tmp_path, "a", {"L1": 0.1, "L2": 0.2, "H2": 0.3}, 7)
    deliver(before, tmp_path, "b", {"L1": 1e-7, "H1": -3.3}, 29)
    after = updates(tmp_path)
    assert after.mean.means() == {}
    after.replay()
    assert set(after.accepted) == {"a", "b"}
    for name, mean in before.mean.means().items():
        np.testing.assert_array_equal(after.mean.means()[name], mean)


def test_asks_again_for_an_update_whose_bytes_were_lost(tmp_path: Path) -> None:
    deliver_both(updates(tmp_path), tmp_path)
    RunDirectory.open(tmp_path).update(1, "a").write_bytes(b"")
    after = updates(tmp_path)
    after.replay()
    assert set(after.accepted) == {"b"}
    assert after.verdict("a", 1) is None


def test_refuses_an_update_of_layers_that_the_device_does_not_hold(tmp_path: Path) -> None:
    round = updates(tmp_path)
    offer, _ = update("b", {"L1": 1.0, "L2": 1.0, "H1": 1.0}, samples=30)
    with pytest.raises(RejectedUpdateError) as caught:
        round.check(offer)
    assert caught.value.reason == "units"


def test_refuses_more_samples_than_the_device_has(tmp_path: Path) -> None:
    round = updates(tmp_path)
    offer, _ = update("b", {"L1": 1.0, "H1": 1.0}, samples=31)
    with pytest.raises(RejectedUpdateError) as caught:
        round.check(offer)
    assert caught.value.reason == "samples"


def test_remembers_a_refusal_over_a_restart(tmp_path: Path) -> None:
    updates(tmp_path).give_up("a", 1, "0" * 64, UpdateVerdict("rejected", "why"))
    after = updates(tmp_path)
    after.replay()
    assert after.verdict("a", 1) == UpdateVerdict("rejected", "why")


def test_adds_up_again_when_an_extension_changes_the_scale(tmp_path: Path) -> None:
    extended, straight = updates(tmp_path / "1"), updates(tmp_path / "2", capacity=1000)
    deliver(extended, tmp_path, "a", {"L1": 0.1, "L2": 0.2, "H2": 0.3}, 7)
    extend(extended, (CohortMember("c", 1, 1.0, 900, 900, replacement=True),), 1000)
    deliver(straight, tmp_path, "a", {"L1": 0.1, "L2": 0.2, "H2": 0.3}, 7)
    for name, mean in straight.mean.means().items():
        np.testing.assert_array_equal(extended.mean.means()[name], mean)
    deliver(extended, tmp_path, "c", {"L1": 1.0, "H1": 1.0}, 900)
    assert set(extended.accepted) == {"a", "c"}


def test_settles_on_the_bits_of_those_who_delivered_whoever_else_was_invited(tmp_path: Path) -> None:
    """A sum that has room for 2^40 samples rounds these changes to nothing."""
    invited, alone = updates(tmp_path / "1", capacity=2**41), updates(tmp_path / "2", capacity=14)
    for one in (invited, alone):
        deliver(one, tmp_path, "a", {"L1": 0.01, "L2": 0.02, "H2": 0.03}, 7)
    before = {name: np.ones(2, np.float32) for name in NAMES.values()}
    assert invited.mean.means()[NAMES["L1"]].tolist() != alone.mean.means()[NAMES["L1"]].tolist()
    assert invited.settle(before) is None
    assert alone.settle(before) is None
    for name, mean in alone.mean.means().items():
        np.testing.assert_array_equal(invited.mean.means()[name], mean)
    assert invited.accepted.keys() == {"a"}


def test_settles_on_the_bits_of_the_others_when_an_update_is_withdrawn(tmp_path: Path) -> None:
    round, alone = updates(tmp_path / "1", capacity=2**41), updates(tmp_path / "2", capacity=14)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 7.0}, 30)
    for one in (round, alone):
        deliver(one, tmp_path, "a", {"L1": 0.01, "L2": 0.02, "H2": 0.03}, 7)
    round.withdraw("b", "far too large")
    for name, mean in alone.mean.means().items():
        np.testing.assert_array_equal(round.mean.means()[name], mean)


def test_settles_on_lighter_updates_where_unequal_weights_would_round_a_layer_away(tmp_path: Path) -> None:
    places = (CohortMember("a", 2, 1.0, 10, 10), CohortMember("b", 1, 1.0, 10**9, 10**9))
    journal = Journal.open(RunDirectory.open(tmp_path).journal)
    journal.open_round(1, 2 * (10**9 + 10), places)
    journal.close()
    round = updates(tmp_path)
    deliver(round, tmp_path, "a", {"L1": 1e-3, "L2": 1e-3, "H2": 1e-3}, 10)
    deliver(round, tmp_path, "b", {"L1": 1e-3, "H1": 1e-3}, 10**9)
    limit = round.settle({name: np.ones(2, np.float32) for name in NAMES.values()})
    assert limit is not None
    assert 10 <= limit.most < 10**9
    assert np.allclose(round.mean.means()[NAMES["L2"]], 1e-3, rtol=1e-3)
    summary = round.summary(1.0, None, {}, {}, ())
    assert summary.coverage["L1"] == {"a": 10, "b": limit.most}


def test_summarises_who_did_what(tmp_path: Path) -> None:
    round = updates(tmp_path)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 7.0}, 30)
    traffic: dict[Purpose, Traffic] = {"update": Traffic(300, 2)}
    judged = Evaluated(
        scores=ModelScores({1: {"accuracy": 0.5}, 2: {"accuracy": 0.6}}, {1: 1.5, 2: None}, ensemble={1: 0.5, 2: 0.7}),
        exit_loss={1: 1.5, 2: None},
        samples=10,
    )
    summary = round.summary(2.0, judged, {"a": "pi", "b": "nano"}, traffic, ("a",))
    lost, contributed = summary.devices
    assert (lost.id, lost.profile, lost.status, lost.params_down, lost.params_up) == ("a", "pi", "lost", 6, 0)
    assert (contributed.id, contributed.status, contributed.layers_sent) == ("b", "contributed", ("L1", "H1"))
    assert (contributed.params_down, contributed.params_up, contributed.bytes_down) == (4, 4, 100)
    assert summary.traffic == traffic
    assert summary.coverage == {"L1": {"b": 30}, "L2": {}, "H1": {"b": 30}, "H2": {}}


BUFFERED = RoundSettings(mode="buffered", staleness_exponent=1.0)


def overlapping(directory: Path, opened: OpenRound, *, closed: bool = False) -> RoundUpdates:
    """The updates of a round of an asynchronous run, journaled as the round controller does."""
    run = RunDirectory.open(directory)
    journal = Journal.open(run.journal)
    if not closed:
        journal.open_round(opened.round, opened.weight_capacity, opened.cohort)
    context = run_context(run, journal, rounds=BUFFERED)
    return RoundUpdates(context, cohort_of(opened), opened.weight_capacity, closed=closed)


def place(device: str, round: int) -> CohortMember:
    return CohortMember(device, 1, 1.0, 10, 10, round=round)


def test_weighs_a_stale_update_less(tmp_path: Path) -> None:
    round = overlapping(tmp_path, OpenRound(3, (place("a", 1), place("b", 3)), 100_000))
    deliver(round, tmp_path, "a", {"L1": 3.0, "H1": 3.0}, 10, round=1, counts_in=3)
    deliver(round, tmp_path, "b", {"L1": 7.0, "H1": 7.0}, 10, round=3, counts_in=3)
    # Two versions old: a third of the weight, in 256ths 85 to 256.
    assert round.mean.means()[NAMES["L1"]].tolist() == pytest.approx([(85 * 3 + 256 * 7) / 341] * 2)
    summary = round.summary(1.0, None, {}, {}, ())
    assert [(device.id, device.staleness) for device in summary.devices] == [("a", 2), ("b", 0)]
    assert summary.coverage["L1"] == {"a": 850, "b": 2560}


def test_keeps_an_early_update_for_the_book_of_the_next_round(tmp_path: Path) -> None:
    first = overlapping(tmp_path, OpenRound(2, (place("a", 1), place("b", 2)), 100_000))
    deliver(first, tmp_path, "b", {"L1": 1.0, "H1": 1.0}, 10, round=2, counts_in=2)
    extend(first, (place("c", 2),), 100_000)
    deliver(first, tmp_path, "a", {"L1": 5.0, "H1": 5.0}, 10, round=1, counts_in=3)
    assert first.mean.means()[NAMES["L1"]].tolist() == [1.0, 1.0]
    assert (set(first.accepted), set(first.early)) == ({"b"}, {"a"})
    for file in first.spent():
        file.unlink()

    between = overlapping(tmp_path, OpenRound(2, first.cohort.places, 1), closed=True)
    between.replay()
    assert (set(between.accepted), set(between.early)) == ({"b"}, {"a"})
    second = overlapping(tmp_path, OpenRound(3, (place("a", 1), place("c", 2)), 100_000))
    second.replay()
    assert second.mean.means()[NAMES["L1"]].tolist() == [5.0, 5.0]
    assert second.verdict("a", 1) == UpdateVerdict("contributed")


def test_tells_of_a_device_that_is_still_at_work_in_no_round(tmp_path: Path) -> None:
    round = overlapping(tmp_path, OpenRound(2, (place("a", 1), place("b", 2), place("c", 2)), 100_000))
    deliver(round, tmp_path, "b", {"L1": 1.0, "H1": 1.0}, 10, round=2, counts_in=2)
    summary = round.summary(1.0, None, {}, {}, ("c",))
    assert [(device.id, device.status) for device in summary.devices] == [("b", "contributed"), ("c", "lost")]


def test_gives_a_device_a_new_place_instead_of_an_older_one(tmp_path: Path) -> None:
    round = overlapping(tmp_path, OpenRound(2, (place("a", 1),), 100_000))
    round.give_up("a", 1, "", UpdateVerdict("failed", "why"))
    extend(round, (place("a", 2),), 100_000)
    assert round.cohort.places == (place("a", 2),)
    assert round.given_up == frozenset()


def test_withdraw_leaves_the_sum_of_the_others_for_every_later_life(tmp_path: Path) -> None:
    round = updates(tmp_path)
    deliver_both(round, tmp_path)
    round.withdraw("b", "far too large")
    again = updates(tmp_path)
    again.replay()

    for one in (round, again):
        assert {name: mean.tolist() for name, mean in one.mean.means().items()} == {
            NAMES["L1"]: [1.0, 1.0],
            NAMES["L2"]: [2.0, 2.0],
            NAMES["H2"]: [3.0, 3.0],
        }
        assert one.verdict("b", 1) == UpdateVerdict("rejected", "far too large")
        assert one.accepted.keys() == {"a"}
    told = round.summary(1.0, {}, {}, {}, ())
    assert {device.id: device.status for device in told.devices} == {"a": "contributed", "b": "rejected"}


def test_counts_no_more_samples_than_the_place_may_weigh(tmp_path: Path) -> None:
    journal = Journal.open(RunDirectory.open(tmp_path).journal)
    journal.open_round(1, 80, (PLACES[0], CohortMember("b", 1, 1.0, 1000, 30)))
    journal.close()
    round = updates(tmp_path)
    deliver(round, tmp_path, "a", {"L1": 1.0, "L2": 2.0, "H2": 3.0}, 10)
    deliver(round, tmp_path, "b", {"L1": 5.0, "H1": 7.0}, 1000)
    assert round.mean.means()[NAMES["L1"]].tolist() == [4.0, 4.0]  # (10 * 1 + 30 * 5) / 40
