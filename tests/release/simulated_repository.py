"""A repository in memory that can be wrong in every way, after the one that python-tuf's updater tests stand on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fedlp_edge.release.release_client import ReleaseClient
from fedlp_edge.release.signed_assignment import SignedAssignment

MODEL = "r1/m.onnx"
DEVICE = "pi-1"
ASSIGNED = SignedAssignment(device=DEVICE, release="r1", model=MODEL)
PAST = datetime.now(UTC).replace(microsecond=0) - timedelta(days=5)
FUTURE = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


class SimulatedRepository:
    """All roles with one key each; tests change what is signed before, and what is served after.

    Attributes:
        root, timestamp, snapshot, targets, assignments: What the next ``served`` signs.
        signers: Keys by role.
        published_roots: Bytes of every root so far.
        contents: Bytes of the signed files.
        hashes: Whether timestamp and snapshot tell the hash and the length of what they name.
    """

    def __init__(self) -> None:
        self.signers = {
            role: [CryptoSigner.generate_ed25519()]
            for role in ("root", "timestamp", "snapshot", "targets", "assignments")
        }
        self.contents = {MODEL: b"a model", f"assignments/{DEVICE}.json": msgspec.json.encode(ASSIGNED)}
        self.hashes = False
        self.root = Root(expires=FUTURE)
        for role in ("root", "timestamp", "snapshot", "targets"):
            self.root.add_key(self.signers[role][0].public_key, role)
        online = self.signers["assignments"][0].public_key
        role = DelegatedRole("assignments", [online.keyid], 1, True, paths=["assignments/*.json"])
        self.targets = Targets(expires=FUTURE, delegations=Delegations({online.keyid: online}, {"assignments": role}))
        self.targets.targets[MODEL] = TargetFile.from_data(MODEL, self.contents[MODEL], ["sha256"])
        self.assignments = Targets(expires=FUTURE)
        name = f"assignments/{DEVICE}.json"
        self.assignments.targets[name] = TargetFile.from_data(name, self.contents[name], ["sha256"])
        self.snapshot = Snapshot(expires=FUTURE, meta={})
        self.timestamp = Timestamp(expires=FUTURE)
        self.published_roots: list[bytes] = []
        self.publish_root()
        self.update_snapshot(version=1)
        self.timestamp.version = 1

    def sign(self, role: str, signed: Any) -> bytes:
        metadata = Metadata(copy.deepcopy(signed))
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish_root(self) -> None:
        self.published_roots.append(self.sign("root", self.root))

    def bump_root(self) -> None:
        self.root.version += 1
        self.publish_root()

    def update_timestamp(self) -> None:
        self.timestamp.version += 1
        self.timestamp.snapshot_meta = self._meta("snapshot", self.snapshot)

    def update_snapshot(self, version: int = 0) -> None:
        for role, signed in (("targets", self.targets), ("assignments", self.assignments)):
            self.snapshot.meta[f"{role}.json"] = self._meta(role, signed)
        self.snapshot.version = version or self.snapshot.version + 1
        self.update_timestamp()

    def served(self) -> dict[str, bytes]:
        """The files that a device gets, by name."""
        found = {f"metadata/{number}.root.json": data for number, data in enumerate(self.published_roots, 1)}
        stamp, shot = self.timestamp.snapshot_meta.version, self.snapshot.meta
        found["metadata/timestamp.json"] = self.sign("timestamp", self.timestamp)
        found[f"metadata/{stamp}.snapshot.json"] = self.sign("snapshot", self.snapshot)
        found[f"metadata/{shot['targets.json'].version}.targets.json"] = self.sign("targets", self.targets)
        found[f"metadata/{shot['assignments.json'].version}.assignments.json"] = self.sign(
            "assignments", self.assignments
        )
        return found | self.contents

    def _meta(self, role: str, signed: Any) -> MetaFile:
        if not self.hashes:
            return MetaFile(signed.version)
        return MetaFile.from_data(signed.version, self.sign(role, signed), ["sha256"])


class SimulatedDevice:
    """A device that trusts the first root of a repository, and keeps its state from one update to the next."""

    def __init__(self, path: Path, root: bytes) -> None:
        self._path = path
        self._root = root

    def update(self, served: dict[str, bytes]) -> bytes:
        """Verifies everything as an agent does; returns the model's bytes."""
        files = {}
        for number, (name, data) in enumerate(served.items()):
            files[name] = self._path / f"download-{number}"
            files[name].write_bytes(data)
        client = ReleaseClient.open(self._root, self._path / "trusted", DEVICE, files)
        return client.fetch(client.assigned().model).read_bytes()

    def version(self, role: str) -> int | None:
        """The version of a role that the device keeps."""
        path = self._path / f"trusted/{role}.json"
        return Metadata.from_file(str(path)).signed.version if path.exists() else None


Change = Callable[[SimulatedRepository], None]


@contextmanager
def signed_by(repository: SimulatedRepository, role: str, *signers: CryptoSigner) -> Iterator[None]:
    """Has other keys sign a role for a while."""
    before = repository.signers[role]
    repository.signers[role] = list(signers)
    try:
        yield
    finally:
        repository.signers[role] = before
