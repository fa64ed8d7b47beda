# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
from __future__ import annotations

from device_agent.protocol.assignment import AssignedModel, AssignmentHandler
from device_agent.protocol.events import (
    BuildFailed,
    BuildModel,
    Log,
    ModelBuilt,
    Publish,
    Subscribe,
    Unsubscribe,
)
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.transport.base import Connected, Subscribed
from fedlp_edge.wire.admission import max_unit_bytes
from fedlp_edge.wire.messages import AssignmentRefused, Failure, Ready
from tests.device_agent.support import (
    BLUEPRINT,
    BROKER_LIMITS,
    ME,
    MODEL,
    TOPICS,
    Device,
    assignment,
    only,
    published,
)


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


def test_logs_a_refusal_once_and_takes_the_next_assignment():
    handler = AssignmentHandler(ME, frozenset())
    handler.assign(assignment())
    handler.built(ModelBuilt(MODEL, BLUEPRINT))
    refusal = AssignmentRefused(run="run", device="pi", reason="the samples are 3x2")
    assert handler.on_refusal(refusal) == [
        Log("this device cannot take part in run run: the samples are 3x2", warning=True),
        Unsubscribe("fedlp/demo/model/H1"),
        Unsubscribe("fedlp/demo/model/L1"),
    ]
    assert handler.on_refusal(refusal) == []
    assert (handler.refused, handler.assigned_model) == (True, None)
    assert handler.assign(assignment()) == [Subscribe("fedlp/demo/model/H1"), Subscribe("fedlp/demo/model/L1")]
    assert (handler.refused, handler.assigned_model) == (False, AssignedModel(MODEL, BLUEPRINT, 1))


def test_refuses_a_depth_that_the_model_does_not_have():
    handler = AssignmentHandler(ME, frozenset())
    handler.assign(assignment(depth=3))
    note, publish = handler.built(ModelBuilt(MODEL, BLUEPRINT))
    assert note == Log("assignment refused: the model has no depth 3", warning=True)
    assert publish.message.reason == "the model has no depth 3"


def test_says_which_names_the_numbers_of_a_device_are_taken_for():
    model = ModelSettings(name="tiny", input=(2,), classes=2, class_names=("bad", "good"))
    handler = AssignmentHandler(ME, frozenset())
    handler.assign(assignment(model=model))
    effects = handler.built(ModelBuilt(model, BLUEPRINT, DataFacts(labels=2, highest=1)))
    assert [effect.text for effect in effects if isinstance(effect, Log)] == [
        'this device\'s classes are numbers: 0, 1 and so on are taken for "bad", "good"'
    ]


def test_says_which_classes_the_device_has_no_samples_of():
    model = ModelSettings(name="tiny", input=(2,), classes=2, class_names=("cat", "dog"))
    handler = AssignmentHandler(ME, frozenset())
    handler.assign(assignment(model=model))
    effects = handler.built(ModelBuilt(model, BLUEPRINT, DataFacts(classes=("cat", "dog"), absent=(1,), labels=1)))
    assert [effect.text for effect in effects if isinstance(effect, Log)] == [
        'this device has no samples of "dog": others of the fleet teach these'
    ]


def test_allows_chunks_of_its_own_units_before_a_task_and_of_none_after_the_run():
    handler = AssignmentHandler(ME, frozenset())
    assert handler.prefetch_bytes() == {}
    handler.assign(assignment())
    handler.built(ModelBuilt(MODEL, BLUEPRINT))
    assert handler.prefetch_bytes() == {id: max_unit_bytes(BLUEPRINT.by_id[id]) for id in ("L1", "H1")}
    assert len(handler.end()) == 2
    assert handler.prefetch_bytes() == {}
    assert not [effect for effect in handler.ready() if isinstance(effect, Publish)]


def test_is_ready_again_only_when_the_broker_has_confirmed_what_it_had_given_up():
    device = Device().join(depth=1)
    device.down(assignment(depth=2))
    for unit in ("L2", "H2"):
        device.handle(Subscribed(TOPICS.of("model", unit)))
    assert published(device.down(assignment(depth=1))) == []
    (ready,) = published(device.handle(Subscribed(TOPICS.of("model", "H1"))))
    assert ready == Ready(run="run", device="pi", session=ME.session, depth=1)
