"""An order to install: its files are fetched, tried, and told of, however often the order or a report is lost."""

from __future__ import annotations

import msgspec

from device_agent.protocol.events import DropFiles, FilesWanted, InstallationReported, InstallFiles, Log, Tick
from device_agent.protocol.release_install import failure_of, first_files
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import InstallReport, UnitRequest
from tests.device_agent.installation.orders import install_of, named
from tests.device_agent.support import TOPICS, Device, chunks, only, published

MODEL, TEST = b"model" * 20, b"test"


def report(state: str, reason: str = "", release: str = "r1") -> InstallationReported:
    return InstallationReported(
        InstallReport(run=f"deploy-{release}", device="pi", release=release, state=state, reason=reason)
    )


def repeat(device: Device, *contents: bytes, now: float = 1.0) -> list:
    """All chunks of some files, as sent to this device alone."""
    effects = []
    for content in contents:
        for chunk in chunks(content):
            effects += device.receive(TOPICS.of("repeat", "pi"), chunk, now)
    return effects


def states(effects: list) -> list[str]:
    return [message.state for message in published(effects) if isinstance(message, InstallReport)]


def test_files_are_asked_for_and_tried_once_all_are_there() -> None:
    device = Device().join()
    effects = device.down(install_of(MODEL), 1.0)
    assert states(effects) == ["receiving"]
    requests = [message for message in published(effects) if isinstance(message, UnitRequest)]
    assert {request.digest for request in requests} == {f.version.digest for f in install_of(MODEL).files}
    assert {request.run for request in requests} == {"deploy-r1"}
    assert repeat(device, MODEL) == []
    assert not device.machine.free
    assert only(repeat(device, TEST), InstallFiles) == InstallFiles(install_of(MODEL), ("m.onnx", "m.selftest.npz"))
    for state in ("testing", "probation", "installed"):
        assert states(device.handle(report(state), 2.0)) == [state]
    assert device.machine.free


def test_order_that_comes_again_gets_the_last_report() -> None:
    device = Device().join()
    device.down(install_of(MODEL), 1.0)
    assert states(device.down(install_of(MODEL), 2.0)) == ["receiving"]
    repeat(device, MODEL, TEST)
    device.handle(report("testing"), 3.0)
    assert states(device.down(install_of(MODEL), 4.0)) == ["testing"]
    device.handle(report("failed", "broken"), 5.0)
    device.installation.last = report("failed", "broken").report
    assert published(device.down(install_of(MODEL), 6.0)) == [report("failed", "broken").report]


def test_disk_without_room_is_told_before_a_byte_is_fetched() -> None:
    device = Device().join()
    device.installation.full = "the disk is full"
    effects = device.down(install_of(MODEL), 1.0)
    assert states(effects) == ["failed"]
    assert not [message for message in published(effects) if isinstance(message, UnitRequest)]
    assert only(effects, DropFiles)
    assert repeat(device, MODEL, TEST) == []


def test_corrupted_file_is_fetched_again() -> None:
    device = Device().join()
    device.down(install_of(MODEL), 1.0)
    repeat(device, TEST)
    damaged = bytes([MODEL[0] ^ 1]) + MODEL[1:]
    effects = []
    for chunk in split(damaged, digest_of(MODEL), 40):
        effects += device.receive(TOPICS.of("repeat", "pi"), chunk, 1.0)
    assert not any(isinstance(effect, InstallFiles) for effect in effects), "its digest is another one"
    assert only(repeat(device, MODEL, now=9.0), InstallFiles)


def test_file_that_can_be_assembled_is_fetched_only_when_it_is_asked_for() -> None:
    order = install_of(MODEL)
    order = msgspec.structs.replace(order, files=(*order.files, named("m.onnx.graph", b"graph")))
    assert first_files(order) == ("m.selftest.npz", "m.onnx.graph")
    device = Device().join()
    device.down(order, 1.0)
    assert only(repeat(device, TEST, b"graph"), InstallFiles).names == ("m.selftest.npz", "m.onnx.graph")
    effects = device.handle(FilesWanted(order, ("m.onnx",)), 2.0)
    assert [message.digest for message in published(effects) if isinstance(message, UnitRequest)] == [
        order.files[0].version.digest
    ]
    assert only(repeat(device, MODEL), InstallFiles).names == ("m.selftest.npz", "m.onnx.graph", "m.onnx")
    assert states(device.handle(FilesWanted(order, ("m.onnx",)), 3.0)) == ["failed"], "it was here"


def test_file_that_nobody_named_cannot_be_had() -> None:
    device = Device().join()
    device.down(install_of(MODEL), 1.0)
    repeat(device, MODEL, TEST)
    effects = device.handle(FilesWanted(install_of(MODEL), ("other.onnx",)), 2.0)
    assert states(effects) == ["failed"]
    assert "does not name the file other.onnx" in only(effects, Log).text


def test_order_that_comes_during_a_trial_waits_for_its_end() -> None:
    device = Device().join()
    device.down(install_of(MODEL), 1.0)
    repeat(device, MODEL, TEST)
    assert published(device.down(install_of(b"next" * 30, "r2"), 2.0)) == []
    effects = device.handle(report("installed"), 3.0)
    assert states(effects) == ["installed", "receiving"]
    assert only(repeat(device, b"next" * 30, TEST, now=4.0), InstallFiles).install.release == "r2"


def test_order_that_an_earlier_life_has_on_trial_is_not_begun_again() -> None:
    device = Device().join()
    device.installation.trying = install_of(MODEL)
    assert published(device.down(install_of(MODEL), 1.0)) == []
    assert not device.machine.free
    device.handle(report("testing"), 2.0)
    assert states(device.down(install_of(MODEL), 3.0)) == ["testing"]
    assert published(device.down(install_of(b"next" * 30, "r2"), 4.0)) == []
    device.installation.trying = None
    assert states(device.handle(report("installed"), 5.0)) == ["installed", "receiving"]


def test_device_says_now_and_then_that_it_is_still_at_work() -> None:
    device = Device().join()
    device.down(install_of(MODEL), 1.0)
    repeat(device, MODEL, TEST)
    device.handle(report("testing"), 2.0)
    assert states(device.handle(Tick(), 6.0)) == []
    assert states(device.handle(Tick(), 7.0)) == ["testing"]


def test_reasons_are_lines() -> None:
    assert failure_of(PeerError("forged")) == "forged"
    assert failure_of(OSError(28, "No space left on device")) == "the files cannot be stored: No space left on device"
