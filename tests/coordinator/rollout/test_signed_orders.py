"""Signed roll-outs to agents with a root of trust, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from coordinator.rollout import signed_orders
from coordinator.rollout.file_choice import FileWishes
from coordinator.rollout.ordered_files import OrderedFiles
from coordinator.rollout.rollout_directory import RolloutStatus
from coordinator.rollout.signed_orders import SignedOrders
from device_agent import service
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.errors import DeviceError, ReleaseError
from tests.fleets.rolled_out import RolledOutFleet, write_release
from tests.release.signed_release import MODEL, UNIT, SignedFleet


@pytest.fixture
def signed(tmp_path: Path) -> SignedFleet:
    (tmp_path / "operator").mkdir()
    return SignedFleet(tmp_path / "operator")


def started(path: Path, signed: SignedFleet, devices: int = 1) -> RolledOutFleet:
    fleet = RolledOutFleet(path, devices, root=signed.root)
    fleet.signed = signed.orders
    fleet.start_agents()
    return fleet


def reasons(found: RolloutStatus) -> list[str]:
    return [standing.reason for standing in found.devices.values() if standing.reason]


def test_signed_release_reaches_every_device(tmp_path: Path, signed: SignedFleet) -> None:
    fleet = started(tmp_path, signed, devices=3)
    for name in ("spring", "summer"):
        place = signed.release(name, change=len(name))
        fleet.deploy(place, name=f"rollout-{name}")
        assert fleet.until_ended(f"rollout-{name}").phase == "done"
        assert {fleet.current(device) for device in fleet.names} == {(place / MODEL).read_bytes()}
    fleet.end()


def test_device_that_has_the_weights_gets_the_graph_alone(tmp_path: Path, signed: SignedFleet) -> None:
    fleet = started(tmp_path, signed)
    fleet.pass_time(1.0)
    (tmp_path / "dev-0/cache/unit").write_bytes(UNIT)
    carried: list[int] = []
    note = fleet._note

    def counted(topic: str, payload: bytes) -> bytes:
        carried.append(len(payload) if "/model/" in topic or "/repeat/" in topic else 0)
        return note(topic, payload)

    fleet._note = counted  # type: ignore[method-assign]
    place = signed.release("spring")
    fleet.deploy(place)
    assert fleet.until_ended().phase == "done"
    whole = (place / MODEL).stat().st_size
    assert fleet.current("dev-0") == (place / MODEL).read_bytes()
    # Another release with the same weights: they stand in the model that is installed.
    (tmp_path / "dev-0/cache/unit").unlink()
    place = signed.release("summer", change=1.0)
    fleet.deploy(place, name="second")
    assert fleet.until_ended("second").phase == "done"
    assert fleet.current("dev-0") == (place / MODEL).read_bytes()
    assert 0 < sum(carried) < 2 * 0.1 * whole
    fleet.end()


def test_what_is_not_signed_is_refused_by_every_device(tmp_path: Path, signed: SignedFleet) -> None:
    fleet = started(tmp_path, signed)
    fleet.signed = None
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    found = fleet.until_ended()
    assert (found.phase, fleet.current("dev-0")) == ("stopped", b"")
    assert reasons(found) == ["the release is not complete: metadata/timestamp.json did not come"]
    fleet.end()


def test_unsigned_model_answers_no_more_once_there_is_a_root_of_trust(tmp_path: Path, signed: SignedFleet) -> None:
    fleet = RolledOutFleet(tmp_path, 1)
    fleet.start_agents()
    fleet.deploy(write_release(tmp_path / "good", b"good"))
    assert fleet.until_ended().phase == "done"
    assert fleet.current("dev-0") == b"good of depth 1"
    fleet.end()
    after = started(tmp_path, signed)
    after.pass_time(5.0)
    assert after.current("dev-0") == b""
    place = signed.release("spring")
    after.deploy(place, name="second")
    assert after.until_ended("second").phase == "done"
    after.end()
    again = started(tmp_path, signed)
    again.pass_time(5.0)
    assert again.current("dev-0") == (place / MODEL).read_bytes()
    again.end()


Change = Callable[[SignedFleet, dict[str, Path]], None]


def corrupted(signed: SignedFleet, files: dict[str, Path]) -> None:
    path = signed.directory / "corrupted"
    path.write_bytes(files[f"spring/{MODEL}"].read_bytes()[:-1] + b"x")
    files[f"spring/{MODEL}"] = path


def of_another_device(signed: SignedFleet, files: dict[str, Path]) -> None:
    path = signed.directory / "other"
    path.write_bytes(files["assignments/dev-0.json"].read_bytes().replace(b"dev-0", b"dev-1"))
    files["assignments/dev-0.json"] = path


def without_snapshot(_signed: SignedFleet, files: dict[str, Path]) -> None:
    del files[next(name for name in files if name.endswith(".snapshot.json"))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (corrupted, "spring/model-d1.onnx is not what was signed: "),
        (of_another_device, "assignments/dev-0.json is not what was signed: "),
        (without_snapshot, "the release is not complete: metadata/"),
    ],
)
def test_release_that_was_changed_is_not_installed(
    tmp_path: Path, signed: SignedFleet, change: Change, reason: str
) -> None:
    fleet = started(tmp_path, signed)
    place = signed.release("spring", graph=False)

    def changed(device: str, path: Path, _choices: Sequence[Path]) -> OrderedFiles:
        found = signed.orders(device, path)
        files = dict(found.files)
        change(signed, files)
        return OrderedFiles(files, found.model, found.self_test)

    fleet.signed = changed
    fleet.deploy(place)
    found = fleet.until_ended()
    assert (found.phase, fleet.current("dev-0")) == ("stopped", b"")
    assert reasons(found)[0].startswith(reason)
    fleet.end()


def test_file_that_is_not_signed_is_not_ordered(tmp_path: Path, signed: SignedFleet) -> None:
    place = write_release(tmp_path / "good", b"good")
    with pytest.raises(ReleaseError, match=r"model-d1.onnx is not signed by enough keys; fedlp release sign"):
        signed.orders.check(place / MODEL)


def test_online_key_that_is_missing_is_named(tmp_path: Path, signed: SignedFleet) -> None:
    with pytest.raises(ReleaseError, match="there is no key"):
        SignedOrders(signed.repository, tmp_path / "gone.key")


def test_device_measures_what_is_signed_for_it_and_installs_the_best(
    tmp_path: Path, signed: SignedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two depths are signed, and a third file of the directory is not: it is neither ordered nor measured."""
    spring = signed.release("spring", graph=False)
    both = signed.directory / "both"
    both.mkdir()
    (both / "model-d2.onnx").write_bytes((spring / MODEL).read_bytes())
    (both / MODEL).write_bytes(b"shallow")
    (both / "model-d1.selftest.npz").write_bytes(b"self-test")
    signed.repository.sign_release("both", sorted(both.iterdir()), [signed.fleet])
    (both / "model-d1-int8.onnx").write_bytes(b"unsigned")
    measured: set[bytes] = set()

    def measure(path: Path, *, threads: int) -> MeasuredCost:
        assert threads == 1
        content = path.read_bytes()
        measured.add(content)
        if content != b"shallow":
            raise DeviceError("no such operator")
        return MeasuredCost(milliseconds={90: 1.0}, mean_milliseconds=1.0, memory=1)

    monkeypatch.setattr(service, "measured_cost", measure)
    fleet = started(tmp_path, signed)
    fleet.deploy(both, wishes=FileWishes(measured=True))
    assert fleet.until_ended().phase == "done"
    assert measured == {(both / "model-d2.onnx").read_bytes(), b"shallow"}
    assert fleet.current("dev-0") == b"shallow"
    fleet.end()


def test_as_many_choices_are_signed_as_an_order_can_name(
    tmp_path: Path, signed: SignedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [signed.release(f"r{number}", float(number)) for number in range(4)]
    monkeypatch.setattr(signed_orders, "MAX_FILES", 12)
    found = signed.orders("pi", places[0] / MODEL, [place / MODEL for place in places[1:]])
    assert len(found.files) <= 12
    assert list(found.choices) == [place / MODEL for place in places[: len(found.choices)]]
    assert 2 <= len(found.choices) < 4
