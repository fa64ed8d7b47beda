"""A device with a root of trust: what it installs, what it assembles itself, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from device_agent.installation.offer_choice import choose_offer, permitted_offers
from device_agent.installation.signed_source import SignedSource, SignedSources, read_root
from device_agent.installation.target_source import FileWantedError
from device_agent.installation.trusted_models import TrustedModels
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.core.planning.model_choice import NO_LIMITS
from fedlp_edge.errors import ConfigError, PeerError, UntrustedReleaseError
from fedlp_edge.release.graph_file import GraphFile, encode_graph
from fedlp_edge.wire.messages import Install, ModelOffer
from tests.device_agent.installation.orders import named
from tests.release.signed_release import MODEL, UNIT, SignedFleet

ONNX = f"spring/{MODEL}"
GRAPH = f"{ONNX}.graph"


@pytest.fixture
def fleet(tmp_path: Path) -> SignedFleet:
    (tmp_path / "operator").mkdir()
    return SignedFleet(tmp_path / "operator")


class Device:
    """What a device has downloaded, and the weights that it has."""

    def __init__(self, path: Path, fleet: SignedFleet, kept: Iterable[bytes] = (UNIT,)) -> None:
        self.trusted = TrustedModels(path / "trusted")
        self.files: dict[str, Path] = {}
        (path / "cache").mkdir()
        for number, data in enumerate(kept):
            (path / f"cache/{number}").write_bytes(data)
        self._fleet = fleet
        self._path = path

    def source(
        self, order: Path, *without: str, model: str = ONNX, choices: Iterable[Path] = (), more: Mapping[str, Path] = {}
    ) -> SignedSource:
        """The source of an order, of whose files some were not downloaded, and some came that belong to no order."""
        ordered = self._fleet.orders("pi", order / MODEL, [place / MODEL for place in choices])
        files = tuple(named(name, path.read_bytes()) for name, path in ordered.files.items())
        install = Install(run="deploy", device="pi", release="spring", files=files, model=model)
        self.files = {name: path for name, path in ordered.files.items() if name not in without} | dict(more)
        return SignedSources(self._fleet.root, "pi", self.trusted, (self._path / "cache").iterdir)(install, self.files)


def test_whole_file_is_verified(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet)
    source = device.source(fleet.release("spring", graph=False))
    assigned = source.assigned()
    assert (assigned.version, assigned.model, assigned.self_test) == ("spring", ONNX, "spring/model-d1.selftest.npz")
    assert source.fetch(ONNX) == device.files[ONNX]
    assert source.fetch(assigned.self_test).read_bytes() == b"self-test"
    assert device.trusted.has(device.files[ONNX])


def test_file_is_assembled_of_its_graph_and_weights_that_are_here(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet)
    place = fleet.release("spring")
    source = device.source(place, ONNX)
    path = source.fetch(source.assigned().model)
    assert path.read_bytes() == (place / MODEL).read_bytes()
    assert device.trusted.has(path)
    carried = sum(file.stat().st_size for name, file in device.files.items() if "selftest" not in name)
    assert carried < 0.05 * (place / MODEL).stat().st_size


def test_whole_file_is_wanted_where_weights_are_missing(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet, kept=())
    place = fleet.release("spring")
    with pytest.raises(FileWantedError) as raised:
        device.source(place, ONNX).fetch(ONNX)
    assert raised.value.names == (ONNX,)
    assert device.source(place).fetch(ONNX) == device.files[ONNX]


def test_graph_that_makes_another_file_is_of_no_use(tmp_path: Path, fleet: SignedFleet) -> None:
    """Whatever a signed graph file says, what is installed is the signed model."""
    place = fleet.release("spring", graph=False)
    (place / f"{MODEL}.graph").write_bytes(encode_graph(GraphFile(1, 4, (), (), b"evil")))
    fleet.repository.sign_release("spring", [place / f"{MODEL}.graph"], [fleet.fleet])
    device = Device(tmp_path, fleet)
    with pytest.raises(FileWantedError):
        device.source(place, ONNX).fetch(ONNX)
    assert not (tmp_path / "trusted/assembled.onnx").exists()


def test_graph_that_is_not_signed_is_not_read(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet)
    source = device.source(fleet.release("spring"), ONNX)
    device.files[GRAPH] = tmp_path / "graph"
    device.files[GRAPH].write_bytes(b"another")
    with pytest.raises(UntrustedReleaseError, match=r"^spring/model-d1.onnx.graph is not what was signed"):
        source.fetch(ONNX)


def test_corrupted_model_is_refused(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet)
    source = device.source(fleet.release("spring", graph=False))
    data = bytearray(device.files[ONNX].read_bytes())
    data[100] ^= 1
    device.files[ONNX] = tmp_path / "corrupted"
    device.files[ONNX].write_bytes(data)
    with pytest.raises(UntrustedReleaseError, match=r"^spring/model-d1.onnx is not what was signed"):
        source.fetch(ONNX)
    assert not device.trusted.has(device.files[ONNX])


def test_roll_out_that_asks_for_another_model_than_is_signed_for_the_device(tmp_path: Path, fleet: SignedFleet) -> None:
    source = Device(tmp_path, fleet).source(fleet.release("spring"), model="autumn/model-d1.onnx")
    with pytest.raises(UntrustedReleaseError, match=r"asks for autumn/model-d1.onnx, and what is signed"):
        source.assigned()


def test_models_of_the_assignment_may_be_chosen_among_and_no_other_signed_one(
    tmp_path: Path, fleet: SignedFleet, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever speaks as the coordinator may offer what he likes: a release that is signed is not assigned yet."""
    spring, summer, autumn = (
        fleet.release(name, change, graph=False) for name, change in (("spring", 0.0), ("summer", 1.0), ("autumn", 2.0))
    )
    device = Device(tmp_path, fleet)
    evil = {f"autumn/{MODEL}": autumn / MODEL, "autumn/model-d1.selftest.npz": autumn / "model-d1.selftest.npz"}
    source = device.source(spring, choices=[summer], more=evil)
    assigned = source.assigned()
    tests = {f"{name}/{MODEL}": f"{name}/model-d1.selftest.npz" for name in ("spring", "summer")}
    assert (assigned.model, assigned.self_tests) == (ONNX, tests)
    names = [ONNX, f"summer/{MODEL}", f"autumn/{MODEL}"]
    offers = [ModelOffer(model=name, self_test="autumn/model-d1.selftest.npz", depth=1) for name in names]
    permitted = permitted_offers(offers, assigned.self_tests)
    assert {offer.model: offer.self_test for offer in permitted} == tests  # the offer cannot name another exam either
    assert caplog.messages == [f"autumn/{MODEL} is offered and not assigned to this device: it is not run"]
    with pytest.raises(PeerError, match="none of the models that are offered is assigned"):
        permitted_offers(offers[2:], assigned.self_tests)
    assert source.fetch(f"summer/{MODEL}") == device.files[f"summer/{MODEL}"]
    assert device.trusted.has(summer / MODEL)
    for name in evil:
        with pytest.raises(UntrustedReleaseError, match=rf"^{name} is not assigned to this device$"):
            source.fetch(name)
    assert not device.trusted.has(autumn / MODEL)


def test_choices_that_are_not_here_are_wanted_all_at_once(tmp_path: Path, fleet: SignedFleet) -> None:
    spring, summer = fleet.release("spring"), fleet.release("summer", 1.0)
    device = Device(tmp_path, fleet, kept=())
    source = device.source(spring, ONNX, f"summer/{MODEL}", choices=[summer])
    offers = [ModelOffer(model=name, depth=1) for name in source.assigned().self_tests]

    def measure(path: Path) -> MeasuredCost:
        raise AssertionError(f"{path} is measured before all are here")

    with pytest.raises(FileWantedError) as raised:
        choose_offer(offers, source.fetch, measure, NO_LIMITS, higher=True)
    assert raised.value.names == (ONNX, f"summer/{MODEL}")


def test_order_without_signatures_is_refused(tmp_path: Path, fleet: SignedFleet) -> None:
    device = Device(tmp_path, fleet)
    install = Install(run="deploy", device="pi", release="x", files=(named("m.onnx", b"x"),), model="m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"x")
    files = {"m.onnx": tmp_path / "m.onnx"}
    source = SignedSources(fleet.root, "pi", device.trusted, list)(install, files)
    with pytest.raises(UntrustedReleaseError, match=r"^the release is not complete: metadata/timestamp.json"):
        source.assigned()


def test_root_of_trust_is_read(tmp_path: Path, fleet: SignedFleet) -> None:
    path = tmp_path / "root.json"
    with pytest.raises(ConfigError, match=r"root.json: No such file.*; root names the root.json that fedlp keys init"):
        read_root(path)
    path.write_bytes(fleet.root)
    assert read_root(path) == fleet.root
    path.write_bytes(fleet.root.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(ConfigError, match=r"root.json: the root of trust is not usable: root was signed by 0/1 keys"):
        read_root(path)
    fleet.release("spring")
    path.write_bytes((tmp_path / "operator/repo/metadata/1.targets.json").read_bytes())
    with pytest.raises(ConfigError, match="these are metadata of targets, and no root of trust"):
        read_root(path)
