# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
from __future__ import annotations

import msgspec
import pytest

from device_agent.protocol.events import (
    ForgetUpdate,
    Log,
    Publish,
    Tick,
    TrainingFailed,
    TrainRound,
)
from device_agent.protocol.round_task import fingerprint
from fedlp_edge.wire.admission import max_unit_bytes
from fedlp_edge.wire.messages import Offer, UnitRequest
from tests.device_agent.support import (
    BLUEPRINT,
    TOPICS,
    Device,
    announcement,
    blob,
    chunks,
    only,
    published,
    task,
    train,
    trained,
    version,
)


def test_trains_once_all_units_of_the_task_have_come():
    device = Device().join()
    assert not [e for e in device.down(task()) if isinstance(e, TrainRound)]
    assert not [e for e in device.model("L1", blob("L1")) if isinstance(e, TrainRound)]
    effect = only(device.model("H1", blob("H1")), TrainRound)
    assert effect.order == ("L1", "H1")
    assert effect.sent == {"L1": ("L1.w",), "H1": ("H1.w",)}
    assert {unit: [t.name for t in tensors] for unit, tensors in effect.tensors.items()} == {
        "L1": ["L1.w"],
        "H1": ["H1.w"],
    }
    assert effect.bytes_down == sum(len(c) for id in ("L1", "H1") for c in chunks(blob(id)))


def test_trains_until_the_round_is_over_and_no_longer():
    device = Device().join()
    device.down(msgspec.structs.replace(task(), deadline_seconds=30.0), now=100.0)
    device.model("L1", blob("L1"), now=110.0)
    assert only(device.model("H1", blob("H1"), now=111.0), TrainRound).until == 130.0


def test_trains_at_once_from_chunks_that_came_before_the_task():
    device = Device().join()
    device.model("L1", blob("L1"))
    device.model("H1", blob("H1"))
    assert only(device.down(task()), TrainRound)


def test_downloads_only_what_changed_since_the_last_round():
    device = Device().join()
    train(device)
    trained(device)
    second = task(2, manifest=(version("L1", blob("L1", 2.0)), version("H1", blob("H1"))))
    device.down(second)
    effect = only(device.model("L1", blob("L1", 2.0)), TrainRound)
    assert effect.bytes_down == sum(len(c) for c in chunks(blob("L1", 2.0)))


def test_leaves_out_pruned_units():
    device = Device().join()
    effects = device.down(task(lpr_of={"L1": 0.0}))
    for id in ("L1", "H1"):
        effects += device.model(id, blob(id))
    assert only(effects, TrainRound).sent == {"H1": ("H1.w",)}


def test_asks_for_missing_chunks_after_half_a_second_without_progress():
    device = Device().join()
    device.down(task(), now=10.0)
    first, *_ = chunks(blob("L1"))
    device.receive(TOPICS.of("model", "L1"), first, now=10.4)
    device.model("H1", blob("H1"), now=10.4)
    assert device.machine.next_wakeup() == pytest.approx(10.9)
    assert published(device.handle(Tick(), 10.8)) == []
    request = only(device.handle(Tick(), 10.9), Publish).message
    assert (request.unit, request.missing) == ("L1", ((1, len(chunks(blob("L1")))),))
    assert device.machine.next_wakeup() == pytest.approx(11.9)  # growing patience


def test_takes_repeated_chunks_from_its_own_topic():
    device = Device().join()
    device.down(task())
    device.model("H1", blob("H1"))
    effects = []
    for chunk in reversed(chunks(blob("L1"))):
        effects += device.receive(TOPICS.of("repeat", "pi"), chunk)
    assert only(effects, TrainRound)


def test_stops_asking_when_the_round_is_over_and_goes_on_when_it_is_extended():
    device = Device().join()
    device.down(task(deadline_seconds=3.0), now=0.0)
    effects = device.handle(Tick(), 3.0)
    assert "ended before" in only(effects, Log).text
    assert published(device.handle(Tick(), 3.9)) == []
    device.down(task(deadline_seconds=3.0), now=4.0)
    assert [type(m) for m in published(device.handle(Tick(), 4.5))] == [UnitRequest, UnitRequest]


def test_asks_nothing_while_the_coordinator_is_offline():
    device = Device().join()
    device.down(task(), now=0.0)
    device.receive(TOPICS.coordinator, announcement(online=False), now=0.1)
    assert published(device.handle(Tick(), 30.0)) == []


def test_ignores_a_task_that_is_repeated_while_it_trains():
    device = Device().join()
    train(device)
    assert device.down(task()) == []


def test_drops_the_result_of_a_task_that_a_newer_one_replaced():
    device = Device().join()
    train(device, 1)
    newer = task(2, manifest=task(1).manifest)
    assert not [e for e in device.down(newer) if isinstance(e, TrainRound)]  # the worker is still busy
    effects = trained(device, 1)
    assert only(effects, ForgetUpdate).update.round == 1
    assert only(effects, TrainRound).task.round == 2
    assert not published(effects)


def test_ignores_a_late_task_of_an_earlier_round():
    device = Device().join()
    device.down(task(5))
    assert "too late" in only(device.down(task(4)), Log).text


def test_reports_a_worker_that_ran_out_of_memory_and_takes_the_next_task():
    device = Device().join()
    train(device)
    failure = only(device.handle(TrainingFailed(fingerprint(task()), "memory", "killed")), Publish).message
    assert (failure.round, failure.kind) == (1, "memory")
    assert only(device.down(task(2)), TrainRound)


def test_refuses_a_unit_that_claims_to_be_huge():
    huge = (version("L1", blob("L1")), version("H1", bytes(10_000_000)))
    failure = only(Device().join().down(task(manifest=huge)), Publish).message
    assert "10000000 bytes" in failure.reason


def test_reports_a_unit_that_holds_other_tensors():
    device = Device().join()
    wrong = blob("H2")
    device.down(task(manifest=(version("L1", blob("L1")), version("H1", wrong))))
    failure = only(device.model("H1", wrong), Publish).message
    assert failure.kind == "model"


def test_offers_a_finished_update_again_when_its_task_is_repeated():
    device = Device().join()
    train(device)
    trained(device)
    again = device.down(task(chunk_bytes=999, deadline_seconds=1.0))
    assert isinstance(only(again, Publish).message, Offer)
    assert not [e for e in again if isinstance(e, TrainRound)]


def test_trains_again_when_the_same_round_starts_from_another_model():
    device = Device().join()
    train(device)
    trained(device)
    device.down(task(value=2.0))
    effects = device.model("L1", blob("L1", 2.0)) + device.model("H1", blob("H1", 2.0))
    assert only(effects, TrainRound)


@pytest.mark.parametrize(
    "again",
    [
        task(deadline_seconds=1.0),
        task(chunk_bytes=99),
        task(patience_seconds=9.0),
        task(manifest=(version("L1", blob("L1"), 7), version("H1", blob("H1"), 7))),
    ],
)
def test_is_the_same_work_whenever_it_is_due_and_however_it_is_sent(again):
    assert fingerprint(again) == fingerprint(task())


@pytest.mark.parametrize("change", [{"round": 2}, {"value": 2.0}, {"seed": 2}, {"lpr": 0.5}, {"encoding": "int8"}])
def test_is_other_work_if_another_update_would_come_of_it(change):
    assert fingerprint(task(**change)) != fingerprint(task())


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"depth": 3}, "the task asks for depth 3, the model has 2"),
        ({"manifest": task().manifest[:1]}, "the task's manifest does not name exactly the units of depth 1"),
        (
            {"manifest": (version("L1", b""), version("H1", blob("H1")))},
            f"unit L1 is said to have 0 bytes, it can have 1 to {max_unit_bytes(BLUEPRINT.by_id['L1'])}",
        ),
    ],
)
def test_says_why_a_task_does_not_fit_the_model(wrong, reason):
    (failure,) = published(Device().join().down(msgspec.structs.replace(task(), **wrong)))
    assert (failure.kind, failure.round, failure.reason) == ("model", 1, reason)
