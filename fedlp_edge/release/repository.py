"""This module makes and signs the releases of one fleet, in the roles of The Update Framework.

===============  ==========================  ==============================================================
role             key                         says
===============  ==========================  ==============================================================
``root``         fleet keys, offline         which keys every role has, and how many must sign
``targets``      fleet keys, offline         which files are releases: their length and SHA-256
``assignments``  online key                  which device gets which release (``assignments/*.json`` alone)
``snapshot``     online key                  which versions of targets and assignments belong together
``timestamp``    online key                  which snapshot is the newest
===============  ==========================  ==============================================================

Whoever holds the online key can hand out any release that the fleet keys have signed, and no other file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.repository_files import ASSIGNMENTS, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, RepositoryFiles
from fedlp_edge.release.signed_assignment import GRAPH_SUFFIX, SignedAssignment, assignment_name

MAX_ROOTS = 40
"""Newest roots that devices are offered; a device whose root of trust is older needs a new one by hand."""


@dataclass(frozen=True)
class Lifetimes:
    """How long signatures are good for.

    Attributes:
        offline_days: Days of root and targets, which people sign.
        online_days: Days of assignments, snapshot and timestamp, which a roll-out signs anew.
    """

    offline_days: int = 365
    online_days: int = 30


@dataclass(frozen=True)
class SigningResult:
    """What became of metadata that were signed.

    Attributes:
        role: Name of the role.
        version: Version of the metadata.
        missing: Number of signatures that are still missing; 0 if the metadata are complete.
        unsigned: Ids of the keys of which one must still sign, if some are missing.
    """

    role: str
    version: int
    missing: int = 0
    unsigned: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoleState:
    """What stands in the repository for one role.

    Attributes:
        role: Name of the role.
        version: Newest version; 0 for none.
        expires: When it expires; None without a version.
        threshold: Number of keys that must sign.
        keys: Ids of the keys that may sign.
        pending: Whether a newer version waits for signatures.
    """

    role: str
    version: int
    expires: datetime | None
    threshold: int
    keys: tuple[str, ...]
    pending: bool


class ReleaseRepository:
    """The releases of one fleet in a directory.

    Args:
        directory: Directory of the repository.
        lifetimes: How long new signatures are good for.
        now: Returns the time in UTC.
    """

    def __init__(
        self,
        directory: Path,
        lifetimes: Lifetimes = Lifetimes(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._files = RepositoryFiles(directory)
        self._lifetimes = lifetimes
        self._now = now

    def create(
        self, fleet_keys: Sequence[SSlibKey], threshold: int, online_key: SSlibKey, signers: Sequence[CryptoSigner]
    ) -> SigningResult:
        """Makes the first root of trust.

        Args:
            fleet_keys: Public keys of those who sign roots and releases.
            threshold: Number of them who must sign together.
            online_key: Public key of the machine that hands out releases.
            signers: Fleet keys that sign now; others may follow with ``cosign``.

        Raises:
            ReleaseError: There is a root already, or threshold or keys are wrong.
        """
        if self._files.exists:
            raise ReleaseError(f"{self._files.directory} has a root of trust already; fedlp keys rotate changes it")
        root = Root(expires=self._expiry(self._lifetimes.offline_days), consistent_snapshot=True)
        self._set_fleet_keys(root, fleet_keys, threshold)
        self._set_online_key(root, online_key)
        return self._sign(ROOT, Metadata(root), signers)

    def rotate(
        self,
        signers: Sequence[CryptoSigner],
        *,
        add: Sequence[SSlibKey] = (),
        remove: Sequence[str] = (),
        threshold: int | None = None,
        online_key: SSlibKey | None = None,
    ) -> list[SigningResult]:
        """Makes the next root of trust, signed by the keys of the last one and by its own.

        Args:
            signers: Keys that sign now, old ones and new ones.
            add: Public keys to add to the fleet keys.
            remove: Ids of fleet keys to remove, or the beginnings of ids.
            threshold: Number of fleet keys who must sign together from now on; None for as many as before.
            online_key: New public key of the machine that hands out releases; None for the old one.

        Raises:
            ReleaseError: The keys or the threshold are wrong.
        """
        root = copy.deepcopy(self._root())
        role = root.roles[ROOT]
        keys = {keyid: cast(SSlibKey, root.keys[keyid]) for keyid in role.keyids}
        for start in remove:
            fitting = [keyid for keyid in keys if keyid.startswith(start)]
            if len(fitting) != 1:
                raise ReleaseError(
                    f"{len(fitting)} fleet keys have an id that begins with {start}; see fedlp keys show"
                )
            del keys[fitting[0]]
        keys |= {key.keyid: key for key in add}
        self._set_fleet_keys(root, list(keys.values()), role.threshold if threshold is None else threshold)
        if online_key is not None:
            self._set_online_key(root, online_key)
        root.version += 1
        root.expires = self._expiry(self._lifetimes.offline_days)
        results = [self._sign(ROOT, Metadata(root), signers)]
        if not results[0].missing:
            results += self._resign_targets(signers)
        return results

    def sign_release(self, release: str, sources: Sequence[Path], signers: Sequence[CryptoSigner]) -> SigningResult:
        """Adds the files of a release to the signed ones; nothing is signed if all are there already.

        Args:
            release: Name of the release.
            sources: Its files.
            signers: Fleet keys that sign now; others may follow with ``cosign``.

        Raises:
            ReleaseError: A file of that name was released with other contents, or the keys are wrong.
        """
        targets = self._next_targets()
        published = self._targets()
        for source in sources:
            name = f"{release}/{source.name}"
            try:
                file = TargetFile.from_file(name, str(source), ["sha256"])
            except (OSError, ValueError) as error:
                raise ReleaseError(f"{source}: {error}") from None
            known = None if published is None else published.targets.get(name)
            if known is not None and (known.hashes, known.length) != (file.hashes, file.length):
                raise ReleaseError(f"{name} was released with other contents; choose another --name")
            targets.targets[name] = file
            self._files.copy_target(name, source)
        return self._sign(TARGETS, self._kept_pending(Metadata(targets)), signers)

    def withdraw(self, release: str, signers: Sequence[CryptoSigner]) -> SigningResult:
        """Takes the files of a release from the signed ones, so that no device installs them any more.

        Raises:
            ReleaseError: There is no such release, or the keys are wrong.
        """
        targets = self._next_targets()
        names = [name for name in targets.targets if name.startswith(f"{release}/")]
        if not names:
            raise ReleaseError(f"no release {release} is signed; see fedlp release show")
        for name in names:
            del targets.targets[name]
        return self._sign(TARGETS, self._kept_pending(Metadata(targets)), signers)

    def cosign(self, signers: Sequence[CryptoSigner]) -> list[SigningResult]:
        """Adds signatures to what waits for them.

        Raises:
            ReleaseError: Nothing waits, or a key has no say in it.
        """
        results = []
        for role in (ROOT, TARGETS):
            pending = self._files.read_pending(role)
            fitting = [] if pending is None else self._fitting(role, pending.signed, signers)
            if pending is not None and fitting:
                results.append(self._sign(role, pending, fitting))
                if role == ROOT and not results[-1].missing:
                    results += self._resign_targets(signers)
                    break
        if not results:
            raise ReleaseError("nothing waits for a signature by these keys; see fedlp keys show")
        return results

    def assign(self, assignments: Mapping[str, SignedAssignment], online: CryptoSigner) -> None:
        """Says which device gets which release, and signs a new snapshot and timestamp; nothing else is changed.

        Args:
            assignments: Assignments by device; devices that are not named keep theirs.
            online: Online key.

        Raises:
            ReleaseError: A release is not signed, metadata have expired, or the key is not the online key.
        """
        root, targets = self._root(), self._targets()
        if targets is None:
            raise ReleaseError("no release is signed yet: fedlp release sign DIR")
        for role, signed in ((ROOT, root), (TARGETS, targets)):
            if signed.is_expired(self._now()):
                command = "fedlp keys rotate" if role == ROOT else "fedlp release sign"
                raise ReleaseError(
                    f"{role} expired on {signed.expires:%Y-%m-%d}; the fleet keys sign it anew: {command}"
                )
        if online.public_key.keyid not in root.roles[SNAPSHOT].keyids:
            raise ReleaseError(f"the key {_short(online.public_key.keyid)} is not the online key; see fedlp keys show")
        if targets.delegations is None or online.public_key.keyid not in targets.delegations.keys:
            raise ReleaseError("the online key is new and the releases do not know it yet: fedlp release sign")
        expires = self._expiry(self._lifetimes.online_days)
        earlier = self._files.read(ASSIGNMENTS)
        entries = dict(cast(Targets, earlier.signed).targets) if earlier else {}
        for device, assignment in assignments.items():
            for name in assignment.names:
                if name not in targets.targets:
                    raise ReleaseError(
                        f"{name} is not signed; sign it with fedlp release sign, or see fedlp release show"
                    )
            name, data = assignment_name(device), msgspec.json.encode(assignment)
            self._files.write_target(name, data)
            entries[name] = TargetFile.from_data(name, data, ["sha256"])
        roles: dict[str, Targets] = {
            TARGETS: targets,
            ASSIGNMENTS: Targets(self._files.version(ASSIGNMENTS) + 1, expires=expires, targets=entries),
        }
        self._sign(ASSIGNMENTS, Metadata(roles[ASSIGNMENTS]), [online])
        meta = {f"{role}.json": MetaFile(version=signed.version) for role, signed in roles.items()}
        snapshot = Snapshot(self._files.version(SNAPSHOT) + 1, expires=expires, meta=meta)
        self._sign(SNAPSHOT, Metadata(snapshot), [online])
        stamp = Timestamp(self._files.version(TIMESTAMP) + 1, expires=expires, snapshot_meta=MetaFile(snapshot.version))
        self._sign(TIMESTAMP, Metadata(stamp), [online])

    def releases(self) -> dict[str, dict[str, int]]:
        """Returns the bytes of each signed file, by release and file name.

        Raises:
            ReleaseError: There is no repository.
        """
        self._root()
        targets = self._targets()
        found: dict[str, dict[str, int]] = {}
        for name, file in {} if targets is None else sorted(targets.targets.items()):
            release, _, short = name.partition("/")
            found.setdefault(release, {})[short] = file.length
        return found

    def name_of(self, path: Path) -> str | None:
        """Returns the name under which a file is signed; None if it is not.

        Of several releases that have the same file, that of the name of the file's directory counts, under which it was
        signed unless another name was given; else the last one by name.

        Raises:
            ReleaseError: There is no repository, or the file cannot be read.
        """
        self._root()
        targets = self._targets()
        try:
            file = TargetFile.from_file(path.name, str(path), ["sha256"])
        except (OSError, ValueError) as error:
            raise ReleaseError(f"{path}: {error}") from None
        found = [
            name
            for name, signed in ({} if targets is None else targets.targets).items()
            if name.rpartition("/")[2] == path.name and signed.hashes == file.hashes
        ]
        named = f"{path.resolve().parent.name}/{path.name}"
        return named if named in found else max(found, default=None)

    def files(self, device: str) -> dict[str, Path]:
        """Returns the files that a device needs for what it is assigned, by the names under which it asks for them.

        Raises:
            ReleaseError: Nothing is assigned to the device.
        """
        path = self._files.target_path(assignment_name(device))
        try:
            assignment = msgspec.json.decode(path.read_bytes(), type=SignedAssignment)
        except FileNotFoundError:
            raise ReleaseError(f"nothing is assigned to {device}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise ReleaseError(f"{path} is damaged: {error}") from None
        found = self.metadata_files() | {assignment_name(device): path}
        graphs = [model + GRAPH_SUFFIX for model in assignment.self_tests]
        targets = self._targets()
        for name in (*assignment.names, *graphs):
            if targets is not None and name in targets.targets:
                found[name] = self._files.target_path(name)
        return found

    def metadata_files(self) -> dict[str, Path]:
        """Returns the files of the newest metadata, by the names under which devices ask for them."""
        paths = [self._files.path(ROOT, version) for version in self._files.versions(ROOT)[1:][-MAX_ROOTS:]]
        paths += [self._files.path(role, self._files.version(role)) for role in (TARGETS, SNAPSHOT, ASSIGNMENTS)]
        paths.append(self._files.path(TIMESTAMP, 1))
        return {f"metadata/{path.name}": path for path in paths if path.is_file()}

    def states(self) -> list[RoleState]:
        """Returns what stands in the repository, role by role.

        Raises:
            ReleaseError: There is no repository.
        """
        root, targets = self._root(), self._targets()
        found = []
        for role in (ROOT, TARGETS, ASSIGNMENTS, SNAPSHOT, TIMESTAMP):
            newest = self._files.read(role)
            about: Role = root.roles[SNAPSHOT if role == ASSIGNMENTS else role]
            if role == ASSIGNMENTS and targets is not None and targets.delegations and targets.delegations.roles:
                about = targets.delegations.roles[ASSIGNMENTS]
            found.append(
                RoleState(
                    role,
                    0 if newest is None else newest.signed.version,
                    None if newest is None else newest.signed.expires,
                    about.threshold,
                    tuple(about.keyids),
                    self._files.pending_path(role).is_file(),
                )
            )
        return found

    def _root(self) -> Root:
        newest = self._files.read(ROOT)
        if newest is None:
            if self._files.read_pending(ROOT) is not None:
                raise ReleaseError("the first root waits for signatures: fedlp release cosign")
            raise ReleaseError(f"{self._files.directory} is no release repository; fedlp keys init makes one")
        return cast(Root, newest.signed)

    def _targets(self) -> Targets | None:
        newest = self._files.read(TARGETS)
        return None if newest is None else cast(Targets, newest.signed)

    def _next_targets(self) -> Targets:
        """Returns the next version of targets: the files of the last one, with the online key of today."""
        root, last = self._root(), self._targets()
        (keyid,) = root.roles[SNAPSHOT].keyids
        role = DelegatedRole(ASSIGNMENTS, [keyid], 1, terminating=True, paths=["assignments/*.json"])
        return Targets(
            self._files.version(TARGETS) + 1,
            expires=self._expiry(self._lifetimes.offline_days),
            targets={} if last is None else dict(last.targets),
            delegations=Delegations({keyid: root.keys[keyid]}, {ASSIGNMENTS: role}),
        )

    def _resign_targets(self, signers: Sequence[CryptoSigner]) -> list[SigningResult]:
        """Signs the releases anew, if a new root asks for other signatures than they have."""
        newest = self._files.read(TARGETS)
        if newest is None:
            return []
        root = self._root()
        targets = cast(Targets, newest.signed)
        known = set() if targets.delegations is None else set(targets.delegations.keys)
        complete = root.get_verification_result(TARGETS, newest.signed_bytes, newest.signatures)
        if complete and known == set(root.roles[SNAPSHOT].keyids):
            return []
        anew = self._next_targets()
        return [self._sign(TARGETS, Metadata(anew), self._fitting(TARGETS, anew, signers))]

    def _fitting(self, role: str, signed: Signed, signers: Sequence[CryptoSigner]) -> list[CryptoSigner]:
        """Returns those who may sign."""
        delegators = self._delegators(role, signed)
        allowed = {keyid for delegator in delegators for keyid in delegator.get_delegated_role(role).keyids}
        return [signer for signer in signers if signer.public_key.keyid in allowed]

    def _kept_pending(self, metadata: Metadata[Any]) -> Metadata[Any]:
        """Returns the metadata that wait for signatures, if they say the same as these."""
        pending = self._files.read_pending(TARGETS)
        if pending is None:
            return metadata
        same = copy.deepcopy(pending.signed)
        same.expires = metadata.signed.expires
        return pending if same == metadata.signed else metadata

    def _sign(self, role: str, metadata: Metadata[Any], signers: Sequence[CryptoSigner]) -> SigningResult:
        """Adds signatures; writes the metadata where they belong, complete or not."""
        fitting = self._fitting(role, metadata.signed, signers)
        for signer in signers:
            if signer not in fitting:
                short = _short(signer.public_key.keyid)
                raise ReleaseError(f"the key {short} may not sign {role}; see fedlp keys show")
            metadata.sign(signer, append=True)
        missing, unsigned = 0, set[str]()
        for delegator in self._delegators(role, metadata.signed):
            result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            missing = max(missing, result.missing)
            if result.missing:
                unsigned |= set(result.unsigned)
        if missing:
            self._files.write_pending(role, metadata)
        else:
            self._files.write(role, metadata)
        return SigningResult(role, metadata.signed.version, missing, tuple(sorted(map(_short, unsigned))))

    def _delegators(self, role: str, signed: Signed) -> list[Root | Targets]:
        """Returns whose keys must sign metadata; two roots for a root."""
        if role == ASSIGNMENTS:
            targets = self._targets()
            return [] if targets is None else [targets]
        if role != ROOT:
            return [self._root()]
        root = cast(Root, signed)
        return [root] if root.version == 1 else [self._root(), root]

    def _set_fleet_keys(self, root: Root, keys: Sequence[SSlibKey], threshold: int) -> None:
        if not 1 <= threshold <= len({key.keyid for key in keys}):
            raise ReleaseError(f"the threshold is {threshold}, for {len(keys)} fleet keys; it must be 1 to {len(keys)}")
        for name in (ROOT, TARGETS):
            self._set_role(root, name, keys, threshold)

    def _set_online_key(self, root: Root, key: SSlibKey) -> None:
        if key.keyid in root.roles[ROOT].keyids:
            raise ReleaseError("the online key is a fleet key as well; make one of its own with fedlp keys new")
        for name in (SNAPSHOT, TIMESTAMP):
            self._set_role(root, name, [key], 1)

    @staticmethod
    def _set_role(root: Root, name: str, keys: Iterable[Key], threshold: int) -> None:
        for keyid in list(root.roles[name].keyids):
            root.revoke_key(keyid, name)
        root.roles[name].threshold = threshold
        for key in keys:
            root.add_key(key, name)

    def _expiry(self, days: int) -> datetime:
        return self._now() + timedelta(days=days)


def _short(keyid: str) -> str:
    return keyid[:12]
