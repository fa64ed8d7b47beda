# mypy: disable-error-code="attr-defined"
# A Publish carries any message, and each test knows which.
from __future__ import annotations

import msgspec
import pytest

from device_agent.protocol.downloads import Downloads
from device_agent.protocol.events import (
    CheckModel,
    ExportModel,
    InstallFailed,
    InstallModel,
    Log,
    ModelChecked,
    ModelInstalled,
    NothingToExport,
    Publish,
    Stop,
    Tick,
    Unsubscribe,
)
from device_agent.protocol.final_model import HELD_BACK, FinalModelFetch
from fedlp_edge.transport.base import Connected
from fedlp_edge.wire.messages import DeploymentReport, ModelProof, RunEnded, UnitRequest, UnitVersion
from tests.device_agent.support import (
    BROKER_LIMITS,
    ME,
    MODEL,
    TOPICS,
    Device,
    MemoryStore,
    announcement,
    blob,
    chunks,
    coordinator_of,
    only,
    published,
    version,
)


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


def test_fetches_the_model_of_a_run_that_went_on_after_its_end():
    device = Device().join()
    device.down(end_with_models(b"model"))
    device.receive(TOPICS.of("repeat", "pi"), chunks(b"model", 1000)[0])
    device.handle(ModelInstalled("somewhere"))
    later = msgspec.structs.replace(end_with_models(b"better model"), rounds=5)
    (request,) = published(device.down(later))
    assert isinstance(request, UnitRequest)
    device.receive(TOPICS.of("repeat", "pi"), chunks(b"better model", 1000)[0])
    installed = published(device.handle(ModelInstalled("somewhere")))
    assert installed == [DeploymentReport(run="run", device="pi", state="installed")]
    assert published(device.down(later)) == installed


def test_fetches_the_model_of_another_run_of_the_same_configuration():
    device = Device().join()
    for content in (b"first" * 300, b"second" * 300):
        assert any(isinstance(m, UnitRequest) for m in published(device.down(end_with_models(content))))
        effects = [e for c in chunks(content, 1000) for e in device.receive(TOPICS.of("repeat", "pi"), c)]
        assert only(effects, InstallModel)
        device.handle(ModelInstalled("somewhere"))


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


def fetch(**options):
    """The end of a run on a device that stays and can export, unless ``options`` say otherwise."""
    downloads = Downloads(MemoryStore(), lambda version, blob: None)
    return FinalModelFetch(ME, coordinator_of(), downloads, **{"can_export": True, "once": False, **options})


@pytest.mark.parametrize(
    ("version", "what"),
    [
        (UnitVersion("L1", "a" * 64, 10, 40), "L1"),
        (UnitVersion("onnx-1", "a" * 64, 0, 40), "onnx-1"),
        (UnitVersion("onnx-1", "a" * 64, (1 << 31) + 1, 40), "onnx-1"),
    ],
)
def test_refuses_a_final_model_that_no_onnx_file_can_be(version, what):
    final = fetch()
    message = RunEnded(run="run", device="pi", rounds=3, models=(version,))
    reason = f"the final model {what} is not acceptable"
    assert final.start(message, None, 0.0) == [
        Log("run run is over after 3 rounds"),
        Publish("fedlp/demo/up/pi", DeploymentReport(run="run", device="pi", state="failed", reason=reason)),
        Log(reason, warning=True),
    ]
    assert final.idle


def test_is_done_with_a_run_only_when_every_file_is_installed():
    final = fetch()
    final.start(end_with_models(b"one", b"two"), None, 0.0)
    assert not final.idle
    assert final.installed(ModelInstalled("here")) == [Log("final model installed: here")]
    assert not final.idle
    assert len(final.installed(ModelInstalled("there"))) == 2
    assert (final.idle, final.next_wakeup()) == (True, None)


def test_lets_go_of_the_final_model_when_another_run_has_begun():
    final = fetch()
    final.start(end_with_models(b"model"), None, 0.0)
    assert final.next_wakeup() is not None
    final.cancel()
    assert (final.idle, final.next_wakeup(), final.poll(1000.0)) == (True, None, [])


def end_with_a_file_to_check() -> RunEnded:
    layers = tuple(version(unit, blob(unit), 1000) for unit in ("L1", "H1"))
    models = (version("onnx-1", b"model", 1000),)
    return RunEnded(run="run", device="pi", rounds=3, models=models, layers=layers, holdout=0.1)


def fetched(device: Device) -> list[object]:
    """What follows once the file and the layers of its depth are there."""
    device.down(end_with_a_file_to_check())
    effects: list[object] = []
    for content in (b"model", blob("L1"), blob("H1")):
        effects += device.receive(TOPICS.of("repeat", "pi"), chunks(content, 1000)[0])
    return effects


def test_compares_a_file_with_its_own_model_before_it_installs_it():
    device = Device().join()
    effects = fetched(device)
    check = only(effects, CheckModel)
    assert (check.depth, check.holdout) == (1, 0.1)
    assert [layer.unit for layer in check.layers] == ["L1", "H1"]
    assert [message.state for message in published(effects) if isinstance(message, DeploymentReport)] == ["received"]

    proof = ModelProof(1, samples=7, max_abs_diff=1e-6, agreement=1.0)
    assert only(device.handle(ModelChecked(proof)), InstallModel).version.unit == "onnx-1"
    report = DeploymentReport(run="run", device="pi", state="installed", proof=proof)
    assert published(device.handle(ModelInstalled("somewhere"))) == [report]


def test_takes_ranges_of_activations_if_it_is_asked_and_its_owner_allows_reports():
    asked = msgspec.structs.replace(end_with_a_file_to_check(), ranges=True)
    for reports in (True, False):
        device = Device(report_metrics=reports).join()
        effects: list[object] = list(device.down(asked))
        for content in (b"model", blob("L1"), blob("H1")):
            effects += device.receive(TOPICS.of("repeat", "pi"), chunks(content, 1000)[0])
        checks = [effect for effect in effects if isinstance(effect, CheckModel)]
        assert [check.ranges for check in checks] == ([True] if reports else [])
    assert not only(fetched(Device().join()), CheckModel).ranges


def test_does_not_install_a_file_that_computes_something_else():
    device = Device(once=True).join()
    fetched(device)
    proof = ModelProof(1, samples=7, max_abs_diff=3.0, problem="the file is refused: it differs")
    effects = device.handle(ModelChecked(proof, differs=True))
    assert not [effect for effect in effects if isinstance(effect, InstallModel)]
    report = published(effects)[0]
    assert (report.state, report.reason, report.proof) == ("failed", proof.problem, proof)


def test_installs_a_file_that_it_cannot_compare_and_says_so():
    device = Device().join()
    fetched(device)
    proof = ModelProof(1, problem="checking an export needs onnxruntime")
    effects = device.handle(ModelChecked(proof))
    assert only(effects, InstallModel)
    assert "could not be compared" in only(effects, Log).text


def test_fetches_and_compares_nothing_where_the_owner_lets_it_report_no_metrics():
    device = Device(report_metrics=False).join()
    effects = device.down(end_with_a_file_to_check())
    assert [message.unit for message in published(effects)] == ["onnx-1"]
    effects = device.receive(TOPICS.of("repeat", "pi"), chunks(b"model", 1000)[0])
    assert only(effects, InstallModel)
    assert published(device.handle(ModelInstalled("there"))) == [
        DeploymentReport(run="run", device="pi", state="installed")
    ]


@pytest.mark.parametrize(
    "layers",
    [(), ("L1",), ("L1", "H1", "L2")],
    ids=["none", "too few", "too many"],
)
def test_installs_without_a_comparison_where_the_layers_are_not_those_of_the_file(layers: tuple[str, ...]):
    device = Device().join()
    versions = tuple(version(unit, blob(unit), 1000) for unit in layers)
    device.down(
        RunEnded(
            run="run", device="pi", rounds=3, models=(version("onnx-1", b"model", 1000),), layers=versions, holdout=0.1
        )
    )
    effects = device.receive(TOPICS.of("repeat", "pi"), chunks(b"model", 1000)[0])
    assert only(effects, InstallModel)


def test_has_the_coordinator_wait_while_it_compares_but_not_for_ever():
    device = Device().join()
    fetched(device)
    said = {now: [message.state for message in published(device.handle(Tick(), now=now))] for now in (3.0, 5.0, 9.0)}
    assert said == {3.0: [], 5.0: ["received"], 9.0: []}
    assert device.machine.next_wakeup() == 10.0
    assert published(device.handle(Tick(), now=601.0)) == []


PROOF = ModelProof(1, samples=7, max_abs_diff=1e-6, agreement=1.0)


def ended_while_nobody_listened() -> Device:
    """An agent with ``--once`` that has proved its model while the coordinator was away."""
    device = Device(once=True).join()
    fetched(device)
    device.receive(TOPICS.coordinator, announcement(online=False), now=1.0)
    device.handle(ModelChecked(PROOF), now=2.0)
    effects = device.handle(ModelInstalled("somewhere"), now=3.0)
    assert not [effect for effect in effects if isinstance(effect, Stop)]
    assert "the coordinator is away" in [effect.text for effect in effects if isinstance(effect, Log)][-1]
    return device


def test_an_agent_that_ends_with_its_run_stays_until_the_coordinator_has_heard_its_proof():
    device = ended_while_nobody_listened()
    device.receive(TOPICS.coordinator, announcement(session="s2"), now=20.0)
    effects = device.down(end_with_a_file_to_check(), now=21.0)
    assert published(effects) == 2 * [DeploymentReport(run="run", device="pi", state="installed", proof=PROOF)]
    assert only(effects, Stop).error is None


def test_an_agent_that_ends_with_its_run_does_not_wait_for_ever():
    device = ended_while_nobody_listened()
    assert device.handle(Tick(), now=4.0) == []
    assert device.machine.next_wakeup() == 63.0
    assert device.handle(Tick(), now=62.0) == []
    assert only(device.handle(Tick(), now=63.0), Stop).error is None


@pytest.mark.parametrize("models", [(b"model",), ()], ids=["a file", "a head of its own"])
def test_device_with_a_root_of_trust_holds_the_final_model_back_and_fetches_its_weights(models: tuple[bytes, ...]):
    device = Device(once=True, signed_only=True).join()
    layers = tuple(version(id, blob(id), 40) for id in ("L1", "H1"))
    versions = tuple(version("onnx-1", content, 1000) for content in models)
    effects = device.down(RunEnded(run="run", device="pi", rounds=3, models=versions, layers=layers))
    assert [note.text for note in effects if isinstance(note, Log) and "signed" in note.text] == [
        f"no final model yet: {HELD_BACK}"
    ]
    assert {message.unit for message in published(effects)} == {"L1", "H1"}
    effects = []
    for id in ("L1", "H1"):
        for chunk in chunks(blob(id)):
            effects += device.receive(TOPICS.of("repeat", "pi"), chunk)
    assert published(effects)[0] == DeploymentReport(run="run", device="pi", state="failed", reason=HELD_BACK)
    assert [effect for effect in effects if isinstance(effect, InstallModel | ExportModel)] == []
    assert only(effects, Stop).error is None


def test_device_with_a_root_of_trust_says_so_at_once_where_no_weights_are_offered():
    device = Device(signed_only=True).join()
    report = DeploymentReport(run="run", device="pi", state="failed", reason=HELD_BACK)
    assert published(device.down(end_with_models(b"model"))) == [report]
    assert published(device.down(end_with_models(b"model"))) == [report]  # a coordinator that missed it
