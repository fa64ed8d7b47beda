"""The cases of python-tuf's own updater tests, played against what an agent verifies with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, TargetFile

from fedlp_edge.errors import UntrustedReleaseError
from tests.release.simulated_repository import (
    DEVICE,
    FUTURE,
    MODEL,
    PAST,
    SimulatedDevice,
    SimulatedRepository,
    signed_by,
)

logging.getLogger("tuf").setLevel(logging.ERROR)
UNSIGNED = "is not signed by enough keys"
OLDER = "is older than what this device has seen"
EXPIRED = "is too old"
OTHER = "is not what was signed"
INCOMPLETE = "is not complete"
TOO_LONG = "holds a file that is too long"


@pytest.fixture
def repository() -> SimulatedRepository:
    return SimulatedRepository()


@pytest.fixture
def device(tmp_path: Path, repository: SimulatedRepository) -> SimulatedDevice:
    return SimulatedDevice(tmp_path, repository.published_roots[0])


def other() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def test_first_update(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    assert device.update(repository.served()) == b"a model"
    assert [device.version(role) for role in ("root", "timestamp", "snapshot", "targets", "assignments")] == [1] * 5


def test_update_again_with_nothing_new(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    device.update(repository.served())
    assert device.update(repository.served()) == b"a model"


def test_what_is_newer_is_taken(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    device.update(repository.served())
    repository.targets.version += 1
    repository.update_snapshot()
    assert device.update(repository.served()) == b"a model"
    assert (device.version("timestamp"), device.version("targets")) == (2, 2)


def test_root_of_trust_that_is_not_signed(tmp_path: Path, repository: SimulatedRepository) -> None:
    unsigned = json.loads(repository.published_roots[0])
    unsigned["signatures"] = []
    with pytest.raises(UntrustedReleaseError, match="root of trust is not usable: root was signed by 0/1 keys"):
        SimulatedDevice(tmp_path, json.dumps(unsigned).encode()).update(repository.served())


def test_root_of_trust_that_is_no_root(tmp_path: Path, repository: SimulatedRepository) -> None:
    with pytest.raises(UntrustedReleaseError, match="root of trust is not usable"):
        SimulatedDevice(tmp_path, b"no root").update(repository.served())


def test_expired_root_of_trust_leads_to_a_newer_one(tmp_path: Path, repository: SimulatedRepository) -> None:
    repository.root.expires = PAST
    repository.published_roots.clear()
    repository.publish_root()
    device = SimulatedDevice(tmp_path, repository.published_roots[0])
    with pytest.raises(
        UntrustedReleaseError, match=r"is too old: Final root.json is expired \(this device's clock says"
    ):
        device.update(repository.served())
    repository.root.expires = FUTURE
    repository.bump_root()
    assert device.update(repository.served()) == b"a model"
    assert device.version("root") == 2


def test_expired_root_between_is_only_passed_through(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.root.expires = PAST
    repository.bump_root()
    repository.root.expires = FUTURE
    repository.bump_root()
    assert device.update(repository.served()) == b"a model"
    assert device.version("root") == 3


@pytest.mark.parametrize("later", [False, True])
def test_new_root_that_is_not_signed(repository: SimulatedRepository, device: SimulatedDevice, later: bool) -> None:
    """One in the middle of a chain as well as the last one."""
    with signed_by(repository, "root"):
        repository.bump_root()
    if later:
        repository.bump_root()
    with pytest.raises(UntrustedReleaseError, match=UNSIGNED):
        device.update(repository.served())
    assert device.version("root") == 1


def test_new_root_of_the_same_version(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.publish_root()
    with pytest.raises(UntrustedReleaseError, match="Expected root version 2 instead got version 1"):
        device.update(repository.served())


def test_new_root_that_leaves_a_version_out(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.root.version += 2
    repository.publish_root()
    with pytest.raises(UntrustedReleaseError, match="Expected root version 2 instead got version 3"):
        device.update(repository.served())


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "assignments"])
@pytest.mark.parametrize("signer", [None, other()], ids=["no key", "another key"])
def test_role_that_is_not_signed(
    repository: SimulatedRepository, device: SimulatedDevice, role: str, signer: CryptoSigner | None
) -> None:
    with (
        signed_by(repository, role, *filter(None, [signer])),
        pytest.raises(UntrustedReleaseError, match=UNSIGNED),
    ):
        device.update(repository.served())
    assert device.version(role) is None


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "assignments"])
def test_role_that_has_expired(repository: SimulatedRepository, device: SimulatedDevice, role: str) -> None:
    getattr(repository, role).expires = PAST
    with pytest.raises(UntrustedReleaseError, match=EXPIRED):
        device.update(repository.served())


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "assignments"])
def test_role_of_an_earlier_version(repository: SimulatedRepository, device: SimulatedDevice, role: str) -> None:
    getattr(repository, role).version = 2
    if role in ("targets", "assignments"):
        repository.update_snapshot()
    elif role == "snapshot":
        repository.update_timestamp()
    device.update(repository.served())

    getattr(repository, role).version = 1
    if role in ("targets", "assignments"):
        repository.update_snapshot()
    elif role == "snapshot":
        repository.update_timestamp()
    with pytest.raises(UntrustedReleaseError, match=OLDER):
        device.update(repository.served())
    assert device.version(role) == 2


def test_old_timestamp_is_refused_although_the_newer_one_has_expired(
    repository: SimulatedRepository, device: SimulatedDevice
) -> None:
    repository.timestamp.version, repository.timestamp.expires = 2, PAST
    with pytest.raises(UntrustedReleaseError, match=EXPIRED):
        device.update(repository.served())
    repository.timestamp.version, repository.timestamp.expires = 1, FUTURE
    device.update(repository.served())  # the expired one was never trusted


@pytest.mark.parametrize("role", ["targets", "assignments"])
def test_snapshot_and_role_of_different_times(
    repository: SimulatedRepository, device: SimulatedDevice, role: str
) -> None:
    """Mix and match: a newer role under the name of the version that the snapshot tells."""
    getattr(repository, role).version += 1
    with pytest.raises(UntrustedReleaseError, match=OLDER):
        device.update(repository.served())


def test_timestamp_and_snapshot_of_different_times(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.snapshot.version += 1
    with pytest.raises(UntrustedReleaseError, match=OLDER):
        device.update(repository.served())


@pytest.mark.parametrize("role", ["snapshot", "targets", "assignments"])
@pytest.mark.parametrize("longer", [False, True])
def test_metadata_of_another_hash_or_length(
    repository: SimulatedRepository, device: SimulatedDevice, role: str, longer: bool
) -> None:
    """Signed by the right key and of the right version, but not those that snapshot or timestamp tell of."""
    repository.hashes = True
    repository.update_snapshot()
    served = repository.served()
    if longer:
        getattr(repository, role).unrecognized_fields["more"] = 1
    else:
        getattr(repository, role).expires -= timedelta(days=1)
    name = next(name for name in served if name.endswith(f".{role}.json"))
    served[name] = repository.served()[name]
    with pytest.raises(UntrustedReleaseError, match=TOO_LONG if longer else OTHER):
        device.update(served)


@pytest.mark.parametrize("online", ["timestamp", "snapshot"])
def test_fast_forward_is_recovered_from_by_a_new_key(
    repository: SimulatedRepository, device: SimulatedDevice, online: str
) -> None:
    """A stolen key signs the highest version; with the key's successor, versions may start anew."""
    getattr(repository, online).version = 99999
    if online == "snapshot":
        repository.update_timestamp()
    device.update(repository.served())
    for role in ("timestamp", "snapshot"):
        new = other()
        repository.root.revoke_key(repository.signers[role][0].public_key.keyid, role)
        repository.root.add_key(new.public_key, role)
        repository.signers[role] = [new]
    repository.bump_root()
    repository.update_snapshot(version=1)
    repository.timestamp.version = 1

    assert device.update(repository.served()) == b"a model"
    assert (device.version("timestamp"), device.version("snapshot")) == (1, 1)


def test_fast_forward_of_targets_is_recovered_from(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.targets.version = 99999
    repository.update_snapshot()
    device.update(repository.served())
    for role in ("snapshot", "targets"):
        new = other()
        repository.root.revoke_key(repository.signers[role][0].public_key.keyid, role)
        repository.root.add_key(new.public_key, role)
        repository.signers[role] = [new]
    repository.bump_root()
    repository.targets.version = 1
    repository.update_snapshot()

    assert device.update(repository.served()) == b"a model"
    assert device.version("targets") == 1


@pytest.mark.parametrize("data", [b"a modem", b"a mode", b"a model!"], ids=["content", "short", "long"])
def test_file_of_another_hash_or_length(repository: SimulatedRepository, device: SimulatedDevice, data: bytes) -> None:
    repository.contents[MODEL] = data
    with pytest.raises(UntrustedReleaseError, match=r"^r1/m.onnx is not what was signed: "):
        device.update(repository.served())


def test_assignment_of_another_hash(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.contents[f"assignments/{DEVICE}.json"] += b" "
    with pytest.raises(UntrustedReleaseError, match=OTHER):
        device.update(repository.served())


@pytest.mark.parametrize("missing", ["timestamp.json", ".snapshot.json", ".targets.json", ".assignments.json"])
def test_metadata_that_did_not_come(repository: SimulatedRepository, device: SimulatedDevice, missing: str) -> None:
    served = {name: data for name, data in repository.served().items() if not name.endswith(missing)}
    with pytest.raises(UntrustedReleaseError, match=INCOMPLETE):
        device.update(served)


def test_file_that_did_not_come(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    served = repository.served()
    del served[MODEL]
    with pytest.raises(UntrustedReleaseError, match=r"^r1/m.onnx did not come with the release$"):
        device.update(served)


def test_metadata_longer_than_they_may_be(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    served = repository.served()
    served["metadata/timestamp.json"] += b" " * 20_000
    with pytest.raises(UntrustedReleaseError, match=TOO_LONG):
        device.update(served)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"signed": {}}', b"\xff" * 9])
def test_metadata_that_are_none(repository: SimulatedRepository, device: SimulatedDevice, data: bytes) -> None:
    served = repository.served()
    served["metadata/timestamp.json"] = data
    with pytest.raises(UntrustedReleaseError, match="cannot be trusted"):
        device.update(served)


def test_online_key_cannot_hand_out_a_file_of_its_own(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    """Whoever has stolen the keys of assignments, snapshot and timestamp still cannot sign a model."""
    evil = TargetFile.from_data("r1/evil.onnx", b"evil", ["sha256"])
    repository.assignments.targets["r1/evil.onnx"] = evil
    name = f"assignments/{DEVICE}.json"
    data = repository.contents[name].replace(b"m.onnx", b"evil.onnx")
    repository.contents |= {"r1/evil.onnx": b"evil", name: data}
    repository.assignments.targets[name] = TargetFile.from_data(name, data, ["sha256"])
    with pytest.raises(UntrustedReleaseError, match=r"^r1/evil.onnx is not signed$"):
        device.update(repository.served())


def test_device_without_an_assignment(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    repository.assignments.targets.clear()
    with pytest.raises(UntrustedReleaseError, match=r"^assignments/pi-1.json is not signed$"):
        device.update(repository.served())


def test_assignment_of_another_device(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    name = f"assignments/{DEVICE}.json"
    data = repository.contents[name].replace(b'"pi-1"', b'"pi-2"')
    repository.contents[name] = data
    repository.assignments.targets[name] = TargetFile.from_data(name, data, ["sha256"])
    with pytest.raises(UntrustedReleaseError, match="speaks of pi-2"):
        device.update(repository.served())


def test_trusted_state_that_a_power_cut_has_emptied(
    tmp_path: Path, repository: SimulatedRepository, device: SimulatedDevice
) -> None:
    device.update(repository.served())
    for role in ("timestamp", "snapshot", "targets"):
        (tmp_path / f"trusted/{role}.json").write_bytes(b"")
    assert device.update(repository.served()) == b"a model"


A, B, C = other(), other(), other()


@pytest.mark.parametrize(
    ("chain", "good"),
    [
        # (keys of the root, threshold, who signs it), root by root; after python-tuf's key rotation tests
        ([([A], 1, [A]), ([B], 1, [A, B])], True),
        ([([A], 1, [A]), ([B], 1, [A])], False),
        ([([A], 1, [A]), ([B], 1, [B])], False),
        ([([A], 1, [A]), ([A], 1, [])], False),
        ([([A], 1, [A]), ([A, B], 2, [A, B])], True),
        ([([A], 1, [A]), ([A, B], 2, [A])], False),
        ([([A], 1, [A]), ([A, B], 2, [B])], False),
        ([([A, B], 2, [A, B]), ([A, C], 2, [A, B, C])], True),
        ([([A, B], 2, [A, B]), ([A, C], 2, [A, C])], False),
        ([([A, B], 2, [A, B]), ([A], 1, [A, B])], True),
        ([([A, B], 2, [A, B]), ([A], 1, [A])], False),
        ([([A], 1, [A]), ([B], 1, [A, B]), ([C], 1, [B, C])], True),
        ([([A], 1, [A]), ([B], 1, [A, B]), ([C], 1, [A, C])], False),
        ([([A, B, C], 1, [A]), ([B, C], 1, [C])], True),
    ],
)
def test_root_chain_needs_the_thresholds_of_both_roots(
    tmp_path: Path,
    repository: SimulatedRepository,
    chain: list[tuple[list[CryptoSigner], int, list[CryptoSigner]]],
    good: bool,
) -> None:
    repository.published_roots.clear()
    for version, (keys, threshold, signers) in enumerate(chain, 1):
        set_root_keys(repository, [key.public_key for key in keys], threshold)
        repository.root.version = version
        with signed_by(repository, "root", *signers):
            repository.publish_root()
    device = SimulatedDevice(tmp_path, repository.published_roots[0])
    if good:
        assert device.update(repository.served()) == b"a model"
        assert device.version("root") == len(chain)
    else:
        with pytest.raises(UntrustedReleaseError, match=UNSIGNED):
            device.update(repository.served())


def set_root_keys(repository: SimulatedRepository, keys: list[Key], threshold: int) -> None:
    for keyid in list(repository.root.roles["root"].keyids):
        repository.root.revoke_key(keyid, "root")
    for key in keys:
        repository.root.add_key(key, "root")
    repository.root.roles["root"].threshold = threshold


@pytest.mark.parametrize(
    ("threshold", "signing", "good"),
    [(1, [0], True), (2, [0], False), (2, [0, 1], True), (2, [0, 0], False), (3, [0, 1, 2], True)],
)
def test_release_needs_the_threshold_of_its_keys(
    repository: SimulatedRepository, tmp_path: Path, threshold: int, signing: list[int], good: bool
) -> None:
    fleet = [A, B, C]
    repository.root.revoke_key(repository.signers["targets"][0].public_key.keyid, "targets")
    for signer in fleet:
        repository.root.add_key(signer.public_key, "targets")
    repository.root.roles["targets"].threshold = threshold
    repository.published_roots.clear()
    repository.publish_root()
    device = SimulatedDevice(tmp_path, repository.published_roots[0])
    with signed_by(repository, "targets", *(fleet[number] for number in signing)):
        served: Callable[[], bytes] = lambda: device.update(repository.served())  # noqa: E731
        if good:
            assert served() == b"a model"
        else:
            with pytest.raises(UntrustedReleaseError, match=UNSIGNED):
                served()


def test_key_that_was_removed_signs_nothing_any_more(repository: SimulatedRepository, device: SimulatedDevice) -> None:
    device.update(repository.served())
    old, new = repository.signers["targets"][0], other()
    repository.root.revoke_key(old.public_key.keyid, "targets")
    repository.root.add_key(new.public_key, "targets")
    repository.bump_root()
    repository.targets.version += 1
    repository.update_snapshot()
    with pytest.raises(UntrustedReleaseError, match=UNSIGNED):
        device.update(repository.served())
    repository.signers["targets"] = [new]
    assert device.update(repository.served()) == b"a model"
