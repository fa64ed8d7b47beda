"""The repository of releases: who must sign what, and what a device gets of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from fedlp_edge.errors import ReleaseError, UntrustedReleaseError
from fedlp_edge.release.release_client import ReleaseClient
from fedlp_edge.release.repository import ReleaseRepository
from fedlp_edge.release.signed_assignment import SignedAssignment

ASSIGNMENT = SignedAssignment(device="pi-1", release="r1", model="r1/m.onnx")


def key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def created(path: Path, *fleet: CryptoSigner, online: CryptoSigner, threshold: int = 1) -> ReleaseRepository:
    repository = ReleaseRepository(path / "repo")
    result = repository.create([one.public_key for one in fleet], threshold, online.public_key, fleet[:threshold])
    assert not result.missing
    return repository


def model(path: Path, text: str = "a model") -> Path:
    file = path / "m.onnx"
    file.write_text(text)
    return file


def client(path: Path, repository: ReleaseRepository, *, root: int = 1, **changed: Path) -> ReleaseClient:
    trusted = (path / f"repo/metadata/{root}.root.json").read_bytes()
    return ReleaseClient.open(trusted, path / "device", "pi-1", repository.files("pi-1") | changed)


def test_device_installs_what_fleet_and_online_keys_have_signed(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    assert repository.sign_release("r1", [model(tmp_path)], [fleet]).missing == 0
    repository.assign({"pi-1": ASSIGNMENT}, online)

    device = client(tmp_path, repository)

    assert device.assigned() == ASSIGNMENT
    assert device.fetch("r1/m.onnx").read_text() == "a model"
    assert repository.releases() == {"r1": {"m.onnx": 7}}


def test_file_of_several_releases_counts_for_the_one_that_its_directory_names(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    for name in ("autumn", "spring", "winter"):
        (tmp_path / name).mkdir()
        repository.sign_release(name, [model(tmp_path / name)], [fleet])
    (tmp_path / "elsewhere").mkdir()
    names = {name: repository.name_of(model(tmp_path / name)) for name in ("autumn", "spring", "elsewhere")}
    assert names == {"autumn": "autumn/m.onnx", "spring": "spring/m.onnx", "elsewhere": "winter/m.onnx"}
    repository.withdraw("spring", [fleet])
    assert repository.name_of(tmp_path / "spring" / "m.onnx") == "winter/m.onnx"
    assert repository.name_of(model(tmp_path / "spring", "another")) is None


def test_release_waits_for_its_last_signature(tmp_path: Path) -> None:
    one, two, online = key(), key(), key()
    repository = created(tmp_path, one, two, online=online, threshold=2)

    first = repository.sign_release("r1", [model(tmp_path)], [one])

    assert (first.missing, first.unsigned) == (1, (two.public_key.keyid[:12],))
    with pytest.raises(ReleaseError, match="no release is signed yet"):
        repository.assign({"pi-1": ASSIGNMENT}, online)
    # Whoever signs the same release again adds to the signatures that are there.
    assert repository.sign_release("r1", [model(tmp_path)], [two]).missing == 0
    repository.assign({"pi-1": ASSIGNMENT}, online)
    assert client(tmp_path, repository).assigned() == ASSIGNMENT


def test_online_key_cannot_sign_a_release(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)

    with pytest.raises(ReleaseError, match=r"^the key [0-9a-f]{12} may not sign targets; see fedlp keys show$"):
        repository.sign_release("r1", [model(tmp_path)], [online])


def test_released_file_never_changes_its_contents(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    repository.sign_release("r1", [model(tmp_path)], [fleet])

    with pytest.raises(ReleaseError, match=r"^r1/m.onnx was released with other contents; choose another --name$"):
        repository.sign_release("r1", [model(tmp_path, "another")], [fleet])


def test_only_what_is_signed_is_assigned(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    repository.sign_release("r2", [model(tmp_path)], [fleet])

    with pytest.raises(ReleaseError, match=r"r1/m.onnx is not signed"):
        repository.assign({"pi-1": ASSIGNMENT}, online)
    with pytest.raises(ReleaseError, match="is not the online key"):
        repository.assign({}, fleet)


def test_fleet_key_is_replaced_by_those_who_hold_the_others(tmp_path: Path) -> None:
    one, two, three, online = key(), key(), key(), key()
    repository = created(tmp_path, one, two, online=online)
    repository.sign_release("r1", [model(tmp_path)], [one])
    repository.assign({"pi-1": ASSIGNMENT}, online)
    client(tmp_path, repository).assigned()

    root, targets = repository.rotate([two, three], add=[three.public_key], remove=[one.public_key.keyid[:8]])

    assert (root.version, root.missing, targets.version, targets.missing) == (2, 0, 2, 0)
    with pytest.raises(ReleaseError, match="may not sign targets"):
        repository.sign_release("r2", [model(tmp_path)], [one])
    repository.assign({}, online)
    assert client(tmp_path, repository).assigned() == ASSIGNMENT  # by the first root, through the second


def test_new_root_needs_old_keys_and_new_ones(tmp_path: Path) -> None:
    one, two, online = key(), key(), key()
    repository = created(tmp_path, one, online=online)

    (alone,) = repository.rotate([one], add=[two.public_key], remove=[one.public_key.keyid])
    assert (alone.missing, alone.unsigned) == (1, (two.public_key.keyid[:12],))
    assert repository.states()[0].version == 1
    assert repository.cosign([two])[0].missing == 0
    assert repository.states()[0].version == 2


def test_online_key_is_replaced(tmp_path: Path) -> None:
    fleet, online, later = key(), key(), key()
    repository = created(tmp_path, fleet, online=online)
    repository.sign_release("r1", [model(tmp_path)], [fleet])
    repository.assign({"pi-1": ASSIGNMENT}, online)
    client(tmp_path, repository).assigned()

    repository.rotate([fleet], online_key=later.public_key)

    with pytest.raises(ReleaseError, match="is not the online key"):
        repository.assign({}, online)
    repository.assign({}, later)
    assert client(tmp_path, repository).assigned() == ASSIGNMENT


def test_threshold_must_be_reachable(tmp_path: Path) -> None:
    fleet, online = key(), key()
    with pytest.raises(ReleaseError, match=r"^the threshold is 2, for 1 fleet keys; it must be 1 to 1$"):
        ReleaseRepository(tmp_path).create([fleet.public_key], 2, online.public_key, [fleet])


def test_online_key_is_none_of_the_fleet_keys(tmp_path: Path) -> None:
    fleet = key()
    with pytest.raises(ReleaseError, match="the online key is a fleet key as well"):
        ReleaseRepository(tmp_path).create([fleet.public_key], 1, fleet.public_key, [fleet])


def test_withdrawn_release_is_not_installed_any_more(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    repository.sign_release("r1", [model(tmp_path)], [fleet])
    repository.assign({"pi-1": ASSIGNMENT}, online)
    offered = repository.files("pi-1")
    repository.withdraw("r1", [fleet])
    repository.assign({}, online)

    device = ReleaseClient.open(
        (tmp_path / "repo/root.json").read_bytes(), tmp_path / "device", "pi-1", offered | repository.metadata_files()
    )
    device.assigned()
    with pytest.raises(UntrustedReleaseError, match=r"^r1/m.onnx is not signed$"):
        device.fetch("r1/m.onnx")


def test_expired_release_is_signed_anew_before_it_is_assigned(tmp_path: Path) -> None:
    fleet, online = key(), key()
    created(tmp_path, fleet, online=online).sign_release("r1", [model(tmp_path)], [fleet])
    later = ReleaseRepository(tmp_path / "repo", now=lambda: datetime.now(UTC) + timedelta(days=366))

    with pytest.raises(ReleaseError, match=r"root expired on .*fedlp keys rotate"):
        later.assign({"pi-1": ASSIGNMENT}, online)
    later.rotate([fleet])
    with pytest.raises(ReleaseError, match=r"targets expired on .*fedlp release sign"):
        later.assign({"pi-1": ASSIGNMENT}, online)
    later.sign_release("r1", [model(tmp_path)], [fleet])
    later.assign({"pi-1": ASSIGNMENT}, online)


def test_damaged_metadata_are_named(tmp_path: Path) -> None:
    fleet, online = key(), key()
    repository = created(tmp_path, fleet, online=online)
    (tmp_path / "repo/metadata/1.root.json").write_text("{")

    with pytest.raises(ReleaseError, match=r"1.root.json is damaged: .*restore it from a copy"):
        repository.states()
