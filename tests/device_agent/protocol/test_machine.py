# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
"""The protocol as the device lives it, with literal events and times."""

from __future__ import annotations

import msgspec

from device_agent.protocol.events import (
    ChunkDelivered,
    DeviceMeasured,
    ForgetUpdate,
    Log,
    Publish,
    SendChunk,
    Stop,
    Tick,
    TrainRound,
)
from fedlp_edge.transport.base import Connected, Disconnected, Refused
from fedlp_edge.wire.messages import (
    Grant,
    Offer,
    Ready,
    Receipt,
    RunEnded,
    Status,
    UnitRequest,
)
from tests.device_agent.support import (
    BROKER_LIMITS,
    FACTS,
    TOPICS,
    Device,
    announcement,
    blob,
    only,
    published,
    task,
    train,
    trained,
    update,
)


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


def test_stops_when_the_coordinator_of_its_only_run_speaks_another_protocol():
    old = msgspec.structs.replace(announcement(), protocol=2)
    effects = Device(once=True).receive(TOPICS.coordinator, old, retained=True)
    assert effects == [Stop("the coordinator speaks protocol 2, this agent 7; update the older one")]


def test_waits_for_a_coordinator_that_it_understands_and_hears_none_that_speaks_another_protocol() -> None:
    device, newer = Device().join(), msgspec.structs.replace(announcement(session="s2"), protocol=8)
    text = "the coordinator speaks protocol 8, this agent 7; update the older one. Waiting for one that speaks 7"
    assert device.receive(TOPICS.coordinator, newer) == [Log(text, warning=True)]
    assert device.receive(TOPICS.coordinator, newer) == []
    assert device.down(task()) + device.model("L1", blob("L1")) == []
    assert device.receive(TOPICS.of("down", "pi"), b"what nobody knows yet") == []
    assert device.handle(Tick(), 1000.0) == []
    device.receive(TOPICS.coordinator, announcement(session="s3"), 1001.0)
    assert only(train(device, now=1001.0), TrainRound).task.round == 1


def test_a_newer_coordinator_that_has_left_is_in_no_older_ones_way() -> None:
    device, newer = Device().join(), msgspec.structs.replace(announcement(session="s2"), protocol=8)
    device.receive(TOPICS.coordinator, newer)
    device.receive(TOPICS.coordinator, msgspec.structs.replace(newer, online=False, state="offline"))
    assert only(train(device, now=1001.0), TrainRound).task.round == 1


def test_last_words_of_a_coordinator_of_an_older_version_stop_nobody() -> None:
    left = msgspec.structs.replace(announcement(), online=False, state="offline", protocol=2)
    assert Device().receive(TOPICS.coordinator, left, retained=True) == []


def test_a_publish_that_is_refused_again_and_again_is_told_ever_more_rarely() -> None:
    device = Device().join()
    refused = Refused("fedlp/demo/up/pi", "Not authorized", token=7)
    lines = [effect for _ in range(20) for effect in device.handle(refused) if isinstance(effect, Log)]
    text = "the broker refuses fedlp/demo/up/pi: Not authorized; check its access rules for this device's login"
    assert lines == [Log(text, warning=True)]


def test_a_piece_of_a_chunk_that_is_too_long_is_no_news_and_another_message_is() -> None:
    device = Device().join()
    told = [
        effect
        for topic in ("upload", "up")
        for effect in device.handle(Refused(f"fedlp/demo/{topic}/pi", "9 bytes are over the limit", 7, too_long=True))
        if isinstance(effect, Log)
    ]
    assert told == [Log("the broker refuses a message on fedlp/demo/up/pi: 9 bytes are over the limit", warning=True)]


def test_stops_when_the_broker_refuses_a_subscription():
    effects = Device().join().handle(Refused("fedlp/demo/down/pi", "not authorized"))
    assert "access rules" in only(effects, Stop).error


# A round


def test_takes_the_coordinator_for_online_when_a_task_comes_though_its_announcement_got_lost():
    device = Device([update(1)]).join()
    device.receive(TOPICS.coordinator, announcement(online=False))
    offers = [m for m in published(device.down(task(2), 10.0)) if isinstance(m, Offer)]
    assert [offer.round for offer in offers] == [1]
    asked = published(device.handle(Tick(), 10.5))
    assert [message.unit for message in asked if isinstance(message, UnitRequest)] == ["L1", "H1"]


def test_shows_its_status_again_when_a_task_comes_without_an_assignment():
    device = Device()
    device.handle(Connected(BROKER_LIMITS))
    device.handle(DeviceMeasured(FACTS))
    assert [type(m) for m in published(device.down(task()))] == [Status]


def test_survives_malformed_messages():
    device = Device().join()
    for topic in ("down/pi", "model/L1", "repeat/pi", "device/pi", "coordinator"):
        assert only(device.receive(f"fedlp/demo/{topic}", b"\x00{"), Log).warning


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


def test_forgets_updates_of_a_run_that_is_over():
    device = Device().join()
    train(device)
    trained(device)
    assert only(device.down(RunEnded(run="run", device="pi", rounds=3)), ForgetUpdate)
