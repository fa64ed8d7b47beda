# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
"""The protocol as the device lives it, with literal events and times."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.protocol.events import (
    BuildFailed,
    BuildModel,
    ChunkDelivered,
    DeviceMeasured,
    ExportModel,
    ForgetUpdate,
    InstallFailed,
    InstallModel,
    Leave,
    Log,
    ModelBuilt,
    ModelInstalled,
    NothingToExport,
    Publish,
    RoundTrained,
    SendChunk,
    Stop,
    Subscribe,
    Tick,
    TrainingFailed,
    TrainRound,
    Unsubscribe,
)
from device_agent.protocol.round_task import fingerprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.transport.base import Connected, Disconnected, Refused, Subscribed
from fedlp_edge.wire.messages import (
    DeploymentReport,
    Failure,
    Grant,
    Offer,
    Ready,
    Receipt,
    RunEnded,
    Status,
    UnitRequest,
    UnitVersion,
)
from tests.device_agent.support import (
    BLUEPRINT,
    BROKER_LIMITS,
    FACTS,
    ME,
    MODEL,
    TOPICS,
    Device,
    announcement,
    assignment,
    blob,
    chunks,
    only,
    published,
    task,
    update,
    version,
)


def trained(device: Device, round: int = 1, now: float = 0.0) -> list:
    """Plays a round up to the finished update; returns the effects of its end."""
    mark = fingerprint(task(round))
    return device.handle(RoundTrained(update(round, fingerprint=mark)), now)


def train(device: Device, round: int = 1, now: float = 0.0) -> list:
    effects = device.down(task(round), now)
    for id in ("L1", "H1"):
        effects += device.model(id, blob(id), now)
    return effects


# Presence


def test_starts_by_listening_to_its_four_topics():
    effects = Device().machine.start()
    assert [e.topic for e in effects if isinstance(e, Subscribe)] == [
        "fedlp/demo/coordinator",
        "fedlp/demo/device/pi",
        "fedlp/demo/down/pi",
        "fedlp/demo/repeat/pi",
    ]


@pytest.mark.parametrize(
    "order", [(Connected(BROKER_LIMITS), DeviceMeasured(FACTS)), (DeviceMeasured(FACTS), Connected(BROKER_LIMITS))]
)
def test_announces_itself_when_connected_and_measured(order):
    device = Device()
    assert published(device.handle(order[0])) == []
    publish = only(device.handle(order[1]), Publish)
    assert (publish.topic, publish.retain) == ("fedlp/demo/device/pi", True)
    assert publish.message.facts == FACTS
    assert publish.message.online


def test_announces_itself_again_after_a_reconnect():
    device = Device().join()
    device.handle(Disconnected("gone"))
    kinds = [type(m) for m in published(device.handle(Connected(BROKER_LIMITS)))]
    assert kinds == [Status, Ready]


def test_announces_itself_again_to_a_coordinator_that_restarted():
    device = Device().join()
    effects = device.receive(TOPICS.coordinator, announcement(session="s2"))
    assert [type(m) for m in published(effects)] == [Status]


def test_keeps_quiet_when_the_same_announcement_is_repeated():
    device = Device().join()
    assert device.receive(TOPICS.coordinator, announcement(), retained=True) == []


def test_repairs_its_status_when_an_old_last_will_overwrites_it():
    device = Device().join()
    will = Status(device="pi", online=False, session="0001-a")
    assert only(device.receive(TOPICS.of("device", "pi"), will), Publish).message.online


def test_stops_when_an_older_agent_with_its_name_speaks_up():
    device = Device().join()
    other = Status(device="pi", online=True, session="0001-a", facts=FACTS)
    assert "already connected" in only(device.receive(TOPICS.of("device", "pi"), other), Stop).error
    assert device.handle(Leave()) == []  # no goodbye under a name that belongs to the other one


def test_repeats_its_status_when_a_newer_agent_takes_its_name():
    device = Device().join()
    other = Status(device="pi", online=True, session="0003-c", facts=FACTS)
    effects = device.receive(TOPICS.of("device", "pi"), other)
    assert only(effects, Publish).message.session == ME.session


def test_ignores_a_retained_status_of_an_earlier_life():
    device = Device().join()
    before = Status(device="pi", online=True, session="0001-a", facts=FACTS)
    assert device.receive(TOPICS.of("device", "pi"), before, retained=True) == []


def test_says_goodbye_when_told_to_leave():
    message = only(Device().join().handle(Leave()), Publish).message
    assert (message.online, message.facts) == (False, None)


def test_stops_when_the_broker_refuses_a_subscription():
    effects = Device().join().handle(Refused("fedlp/demo/down/pi", "not authorized"))
    assert "access rules" in only(effects, Stop).error


# Assignment


def test_builds_the_assigned_model_then_listens_to_its_layers_then_is_ready():
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    assert only(device.down(assignment(depth=1)), BuildModel).model == MODEL
    effects = device.handle(ModelBuilt(MODEL, BLUEPRINT))
    assert [e.topic for e in effects if isinstance(e, Subscribe)] == ["fedlp/demo/model/H1", "fedlp/demo/model/L1"]
    assert published(device.handle(Subscribed("fedlp/demo/model/L1"))) == []
    ready = only(device.handle(Subscribed("fedlp/demo/model/H1")), Publish).message
    assert ready == Ready(run="run", device="pi", session=ME.session, depth=1)


def test_answers_a_repeated_assignment_without_building_again():
    device = Device().join()
    assert [type(e.message) for e in device.down(assignment()) if isinstance(e, Publish)] == [Ready]


def test_changes_its_subscriptions_when_it_is_given_another_depth():
    device = Device().join(depth=1)
    effects = device.down(assignment(depth=2))
    assert [e.topic for e in effects if isinstance(e, Unsubscribe)] == ["fedlp/demo/model/H1"]
    assert [e.topic for e in effects if isinstance(e, Subscribe)] == ["fedlp/demo/model/H2", "fedlp/demo/model/L2"]


def test_refuses_a_model_that_splits_differently():
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.down(assignment(digest="0" * 64))
    failure = only(device.handle(ModelBuilt(MODEL, BLUEPRINT)), Publish).message
    assert failure.kind == "model"
    assert "split differently" in failure.reason


def test_refuses_code_that_its_owner_did_not_allow():
    model = ModelSettings(name="shop:net")
    failure = only(Device().down(assignment(model=model)), Publish).message
    assert "--allow-model shop:net" in failure.reason


def test_builds_code_that_its_owner_allowed():
    device = Device(allow_models=frozenset({"shop:net"}))
    assert only(device.down(assignment(model=ModelSettings(name="shop:net"))), BuildModel)


def test_reports_a_model_that_cannot_be_built():
    device = Device()
    device.down(assignment())
    failure = only(device.handle(BuildFailed(MODEL, "model", "no such model")), Publish).message
    assert failure == Failure(run="run", device="pi", session=ME.session, kind="model", reason="no such model")


# A round


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


def test_takes_the_coordinator_for_online_when_a_task_comes_though_its_announcement_got_lost():
    device = Device([update(1)]).join()
    device.receive(TOPICS.coordinator, announcement(online=False))
    offers = [m for m in published(device.down(task(2), 10.0)) if isinstance(m, Offer)]
    assert [offer.round for offer in offers] == [1]
    asked = published(device.handle(Tick(), 10.5))
    assert [message.unit for message in asked if isinstance(message, UnitRequest)] == ["L1", "H1"]


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


def test_refuses_a_task_whose_manifest_is_not_the_models():
    device = Device().join()
    failure = only(device.down(task(manifest=task().manifest[:1])), Publish).message
    assert "manifest" in failure.reason


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


def test_shows_its_status_again_when_a_task_comes_without_an_assignment():
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    assert [type(m) for m in published(device.down(task()))] == [Status]


def test_survives_malformed_messages():
    device = Device().join()
    for topic in ("down/pi", "model/L1", "repeat/pi", "device/pi", "coordinator"):
        assert only(device.receive(f"fedlp/demo/{topic}", b"\x00{"), Log).warning


# Delivery


def test_offers_grants_sends_and_forgets():
    device = Device().join()
    train(device)
    offer = only(trained(device), Publish).message
    assert isinstance(offer, Offer)
    grant = Grant(run="run", round=1, device="pi", digest=offer.digest, missing=((0, 3),), window=2)
    sent = [e.index for e in device.down(grant) if isinstance(e, SendChunk)]
    assert sent == [0, 1]
    effects = device.handle(ChunkDelivered((offer.run, 1, offer.digest), 0))
    assert [e.index for e in effects if isinstance(e, SendChunk)] == [2]
    receipt = Receipt(run="run", round=1, device="pi", digest=offer.digest, state="accepted")
    assert only(device.down(receipt), ForgetUpdate).update == ("run", 1, offer.digest)


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


def test_offers_what_an_earlier_life_left_once_its_coordinator_is_there():
    device = Device([update(3)])
    assert published(device.handle(Connected(BROKER_LIMITS))) == []
    effects = device.receive(TOPICS.coordinator, announcement(), retained=True)
    assert only(effects, Publish).message.round == 3


def test_forgets_what_belongs_to_another_run():
    device = Device([update(3, run="old")])
    device.handle(Connected(BROKER_LIMITS))
    effects = device.receive(TOPICS.coordinator, announcement(), retained=True)
    assert only(effects, ForgetUpdate).update.run == "old"


# The end


def end_with_models(*models: bytes) -> RunEnded:
    versions = tuple(version("onnx-1", content, 1000) for content in models)
    return RunEnded(run="run", device="pi", rounds=3, models=versions)


def test_fetches_and_installs_the_final_model_then_stops():
    device = Device(once=True).join()
    content = bytes(range(256)) * 10
    effects = device.down(end_with_models(content))
    assert [e.topic for e in effects if isinstance(e, Unsubscribe)] == ["fedlp/demo/model/H1", "fedlp/demo/model/L1"]
    assert only(effects, Publish).message.missing == ((0, 3),)
    effects = []
    for chunk in chunks(content, 1000):
        effects += device.receive(TOPICS.of("repeat", "pi"), chunk)
    assert only(effects, InstallModel).version.unit == "onnx-1"
    effects = device.handle(ModelInstalled("somewhere"))
    assert published(effects) == 2 * [DeploymentReport(run="run", device="pi", state="installed")]
    assert only(effects, Stop).error is None


def test_says_while_the_final_model_comes_slowly_that_it_comes():
    device = Device().join()
    content = bytes(range(256)) * 20
    device.down(end_with_models(content), now=100.0)
    said = []
    for number, chunk in enumerate(chunks(content, 1000)):
        now = 103.0 + 3 * number
        said += [(now, m.state) for m in published(device.receive(TOPICS.of("repeat", "pi"), chunk, now=now))]
    assert said == [(106.0, "receiving"), (112.0, "receiving")]


def test_repeats_that_the_model_is_installed_to_whoever_repeats_the_end_of_the_run():
    device = Device().join()
    device.down(end_with_models(b"model"))
    device.receive(TOPICS.of("repeat", "pi"), chunks(b"model", 1000)[0])
    installed = published(device.handle(ModelInstalled("somewhere")))
    assert installed == [DeploymentReport(run="run", device="pi", state="installed")]
    assert published(device.down(end_with_models(b"model"))) == installed


def test_says_why_the_model_could_not_be_installed():
    device = Device().join()
    device.down(end_with_models(b"model"))
    effects = device.handle(InstallFailed("the disk is full"))
    assert published(effects) == [DeploymentReport(run="run", device="pi", state="failed", reason="the disk is full")]


def test_says_why_there_is_no_model_of_its_depth():
    effects = Device(once=True).join().down(RunEnded(run="run", device="pi", rounds=3, refused="no such operator"))
    assert "could not export this depth: no such operator" in effects[-2].text
    assert only(effects, Stop).error is None


def end_with_layers(*units: str) -> RunEnded:
    """To a device with a head of its own."""
    layers = tuple(version(id, blob(id), 40) for id in units)
    return RunEnded(run="run", device="pi", rounds=3, layers=layers)


def test_fetches_the_final_layers_and_exports_a_model_of_its_own_then_stops():
    device = Device(once=True).join()
    effects = device.down(end_with_layers("L1", "H1"))
    assert {message.unit for message in published(effects)} == {"L1", "H1"}
    effects = []
    for id in ("L1", "H1"):
        for chunk in chunks(blob(id)):
            effects += device.receive(TOPICS.of("repeat", "pi"), chunk)
    assert published(effects)[-1] == DeploymentReport(run="run", device="pi", state="received")
    wanted = only(effects, ExportModel)
    assert (wanted.run, wanted.rounds, wanted.model, wanted.depth) == ("run", 3, MODEL, 1)
    assert [layer.unit for layer in wanted.layers] == ["L1", "H1"]
    assert only(device.handle(ModelInstalled("somewhere")), Stop).error is None


def test_stops_without_complaint_when_it_has_no_head_to_export():
    device = Device(once=True).join()
    device.down(end_with_layers("L1", "H1"))
    assert only(device.handle(NothingToExport("never trained")), Stop).error is None


def test_says_what_is_missing_when_it_cannot_export():
    effects = Device(once=True, can_export=False).join().down(end_with_layers("L1", "H1"))
    assert [note.text for note in effects if isinstance(note, Log) and "needs onnx" in note.text]
    assert only(effects, Stop).error is None
    assert [message.state for message in published(effects)] == ["failed", "failed"]  # said twice: it ends now


def test_exports_nothing_of_a_run_that_it_has_no_place_in():
    device = Device(once=True)
    device.handle(Connected(BROKER_LIMITS))
    effects = device.down(end_with_layers("L1", "H1"))
    assert [note.text for note in effects if isinstance(note, Log) and "no place in the run" in note.text]
    assert only(effects, Stop).error is None


def test_refuses_final_layers_that_are_not_its_own():
    assert "not those of depth 1" in only(Device(once=True).join().down(end_with_layers("L1", "L2")), Stop).error
    huge = RunEnded(
        run="run", device="pi", rounds=3, layers=tuple(UnitVersion(id, "a" * 64, 1 << 40, 40) for id in ("L1", "H1"))
    )
    assert "L1 is not acceptable" in only(Device(once=True).join().down(huge), Stop).error


def test_stops_at_once_when_nothing_was_exported():
    assert only(Device(once=True).join().down(end_with_models()), Stop).error is None


def test_stays_for_the_next_run_unless_told_otherwise():
    effects = Device(once=False).join().down(end_with_models())
    assert not [e for e in effects if isinstance(e, Stop)]


def test_gives_up_on_the_final_model_when_the_coordinator_is_gone():
    device = Device(once=True).join()
    device.down(end_with_models(b"x" * 10), now=0.0)
    device.receive(TOPICS.coordinator, announcement(online=False), now=1.0)
    assert device.machine.next_wakeup() == 31.0
    assert "coordinator left" in only(device.handle(Tick(), 31.0), Stop).error


def test_forgets_updates_of_a_run_that_is_over():
    device = Device().join()
    train(device)
    trained(device)
    assert only(device.down(end_with_models()), ForgetUpdate)
