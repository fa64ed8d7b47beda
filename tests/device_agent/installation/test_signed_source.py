"""A device with a root of trust: what it installs, what it assembles itself, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from device_agent.installation.signed_source import SignedSource, SignedSources, read_root
from device_agent.installation.target_source import FileWantedError
from device_agent.installation.trusted_models import TrustedModels
from fedlp_edge.errors import ConfigError, UntrustedReleaseError
from fedlp_edge.release.graph_file import GraphFile, encode_graph
from fedlp_edge.wire.messages import Install
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

    def source(self, order: Path, *without: str, model: str = ONNX) -> SignedSource:
        """The source of an order, of whose files some were not downloaded."""
        ordered = self._fleet.orders("pi", order / MODEL)
        files = tuple(named(name, path.read_bytes()) for name, path in ordered.files.items())
        install = Install(run="deploy", device="pi", release="spring", files=files, model=model)
        self.files = {name: path for name, path in ordered.files.items() if name not in without}
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
