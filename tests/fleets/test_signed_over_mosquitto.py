"""Signed releases over a real broker: an agent with a root of trust, and orders as an attacker would change them.

The other cases of python-tuf's updater tests are in tests/release/test_release_client.py, against the same verifier
without a broker.
"""

from __future__ import annotations

import copy
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from coordinator.inbox import InboxItem
from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.ordered_files import OrderedFiles
from coordinator.rollout.release_files import find_release
from coordinator.rollout.rollout_directory import DeviceStanding, RolloutDirectory, RolloutPlan
from coordinator.rollout.rollout_service import Rollout
from coordinator.transfer.messenger import last_will
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.topics import Topics
from tests.fleets.rolled_out import looked_up_exams
from tests.fleets.standin import StandIn, profile_of
from tests.release.signed_release import MODEL, SignedFleet

pytestmark = pytest.mark.system

DEVICE = "dev-0"
Change = Callable[[dict[str, Path]], dict[str, Path]]


class SignedNetwork:
    """One agent that trusts the keys of its fleet alone, and roll-outs to it, over Mosquitto."""

    def __init__(self, directory: Path, broker: MosquittoBroker) -> None:
        (directory / "operator").mkdir()
        self.operator = SignedFleet(directory / "operator")
        self._directory = directory
        self._address = BrokerAddress.parse(broker.url, {})
        self._fleet = f"signed-{abs(hash(str(directory))) % 10**8}"
        identity = Identity(Topics(self._fleet), DEVICE, "0001")
        will = LastWill(identity.topics.of("device", DEVICE), encode(status(identity, None)))
        self._agent = Agent.open(
            AgentSettings(
                identity,
                "digits",
                directory / DEVICE,
                profile_of(DEVICE),
                root=self.operator.root,
                measure_link=False,
            ),
            MqttTransport(self._address, f"{self._fleet}-{DEVICE}", will),
            lambda sink: StandIn(sink, lambda seconds, do: threading.Timer(seconds, do).start()),  # type: ignore[arg-type, return-value]
        )
        self._thread = threading.Thread(target=self._agent.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._agent.stop()
        self._thread.join(20)

    @property
    def current(self) -> bytes:
        link = self._directory / DEVICE / "models/current.onnx"
        return link.read_bytes() if link.exists() else b""

    def deploy(self, place: Path, change: Change = dict, *, signed: bool = True) -> DeviceStanding:
        """Rolls a release out, with files changed on their way; returns where the device stands in the end."""
        name = f"{place.name}-{len(list(self._directory.iterdir()))}"
        plan = RolloutPlan(
            run=f"deploy-{name}",
            fleet=self._fleet,
            release=name,
            source=str(place),
            config="",
            probation_seconds=0.0,
        )

        def ordered(device: str, path: Path, choices: Sequence[Path]) -> OrderedFiles:
            found = self.operator.orders(device, path, choices)
            return OrderedFiles(change(dict(found.files)), found.model, found.self_test)

        directory = RolloutDirectory(self._directory / name)
        assert directory.lock()
        directory.put_plan(plan)
        inbox: queue.Queue[InboxItem] = queue.Queue()
        transport = MqttTransport(self._address, f"{self._fleet}-{name}", last_will(Topics(self._fleet), plan.run))
        files = RolloutFiles(find_release(place), signed=ordered if signed else None)
        assert Rollout(plan, files, directory, inbox, transport).run(gather_seconds=2.0)
        return directory.status().devices[DEVICE]

    def replaced(self, files: dict[str, Path], suffix: str, change: Callable[[bytes], bytes]) -> dict[str, Path]:
        """The files, one of which has other bytes."""
        name = next(name for name in files if name.endswith(suffix))
        path = self._directory / f"changed-{len(list(self._directory.iterdir()))}.json"
        path.write_bytes(change(files[name].read_bytes()))
        return files | {name: path}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, mosquitto: MosquittoBroker) -> Iterator[SignedNetwork]:
    """An agent on which one signed release is installed."""
    with looked_up_exams():
        network = SignedNetwork(tmp_path_factory.mktemp("signed"), mosquitto)
        try:
            standing = network.deploy(network.operator.release("first"))
            assert (standing.state, standing.reason) == ("installed", "")
            yield network
        finally:
            network.stop()


def signed_by(key: CryptoSigner) -> Callable[[bytes], bytes]:
    """Signs metadata with another key."""

    def change(data: bytes) -> bytes:
        metadata = Metadata.from_bytes(data)
        metadata.sign(key)
        return metadata.to_bytes()

    return change


def unsigned(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"signatures": []}).encode()


def refused(network: SignedNetwork, change: Change, reason: str, *, signed: bool = True) -> None:
    """Nothing but the model of before runs, and the device says why."""
    before = network.current
    place = network.operator.release(f"r{len(network.operator.repository.releases())}", change=1.0, graph=False)
    standing = network.deploy(place, change, signed=signed)
    assert standing.state == "failed"
    assert standing.reason.startswith(reason), standing.reason
    assert network.current == before != (place / MODEL).read_bytes()


def test_order_that_nobody_signed(network: SignedNetwork) -> None:
    refused(network, dict, "the release is not complete: metadata/timestamp.json", signed=False)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "assignments"])
@pytest.mark.parametrize(
    "change", [unsigned, signed_by(CryptoSigner.generate_ed25519())], ids=["no key", "another key"]
)
def test_metadata_without_the_right_signature(
    network: SignedNetwork, role: str, change: Callable[[bytes], bytes]
) -> None:
    refused(
        network,
        lambda files: network.replaced(files, f"{role}.json", change),
        f"the release is not signed by enough keys of the fleet: {role} was signed by 0/1 keys",
    )


def test_corrupted_model(network: SignedNetwork) -> None:
    refused(
        network,
        lambda files: network.replaced(files, MODEL, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        f"r{len(network.operator.repository.releases())}/{MODEL} is not what was signed: ",
    )


def test_older_state_of_the_repository_is_a_rollback(network: SignedNetwork) -> None:
    """All of it was signed by the right keys, once."""
    early = {name: path.read_bytes() for name, path in network.operator.repository.metadata_files().items()}
    installed = network.operator.release("newer", change=2.0)
    assert network.deploy(installed).state == "installed"

    def old(files: dict[str, Path]) -> dict[str, Path]:
        kept = {name: path for name, path in files.items() if not name.startswith("metadata/")}
        for name, data in early.items():
            path = network.operator.directory / name.replace("/", "-")
            path.write_bytes(data)
            kept[name] = path
        return kept

    refused(network, old, "the release is older than what this device has seen")


def test_expired_timestamp(network: SignedNetwork) -> None:
    def expired(data: bytes) -> bytes:
        metadata = copy.deepcopy(Metadata.from_bytes(data))
        metadata.signed.expires = datetime.now(UTC) - timedelta(days=1)
        metadata.sign(network.operator.online)
        return metadata.to_bytes()

    refused(
        network,
        lambda files: network.replaced(files, "timestamp.json", expired),
        "the release is too old: timestamp.json is expired",
    )


def test_keys_are_replaced_under_a_device_that_nobody_touches(network: SignedNetwork) -> None:
    operator = network.operator
    new = CryptoSigner.generate_ed25519()
    operator.repository.rotate([operator.fleet, new], add=[new.public_key], remove=[operator.fleet.public_key.keyid])
    old, operator.fleet = operator.fleet, new
    place = operator.release("rotated", change=3.0)
    standing = network.deploy(place)
    assert (standing.state, standing.reason) == ("installed", "")
    assert network.current == (place / MODEL).read_bytes()

    refused(
        network,
        lambda files: network.replaced(files, ".targets.json", signed_by(old)),
        "the release is not signed by enough keys of the fleet: targets was signed by 0/1 keys",
    )


def test_weights_of_the_installed_model_do_not_travel_again(network: SignedNetwork) -> None:
    place = network.operator.release("again", change=4.0)

    def without_whole(files: dict[str, Path]) -> dict[str, Path]:
        assert f"again/{MODEL}.graph" in files
        return network.replaced(files, f"again/{MODEL}", lambda _data: b"cannot be what was signed")

    standing = network.deploy(place, without_whole)
    assert (standing.state, standing.reason) == ("installed", "")
    assert network.current == (place / MODEL).read_bytes()
