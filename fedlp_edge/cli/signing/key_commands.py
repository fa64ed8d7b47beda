"""This module implements ``fedlp keys``: keys are made, become a root of trust, and are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.key_files import AskPassphrase, make_key, read_private_key, read_public_key
from fedlp_edge.release.repository import ReleaseRepository, SigningResult
from fedlp_edge.reporting.console import open_console, print_unwrapped


def run_keys_new(path: Path, passphrase: str) -> None:
    """Makes a key.

    Raises:
        ReleaseError: A file exists already or cannot be written.
    """
    key = make_key(path, passphrase)
    how = "encrypted" if passphrase else "not encrypted, readable for this user alone"
    print(f"{path}: private key {key.keyid[:12]} ({how}); it never leaves this machine, and a copy belongs into a safe")
    print(f"{path}.pub: public key, for fedlp keys init and rotate")


def run_keys_init(
    repository: Path, fleet: Sequence[Path], online: Path, threshold: int, sign: Sequence[Path], ask: AskPassphrase
) -> None:
    """Makes the first root of trust of a fleet.

    Args:
        repository: Directory of the releases; made if missing.
        fleet: Public keys of those who sign roots and releases.
        online: Public key of the machine that hands releases out.
        threshold: Number of fleet keys who must sign together.
        sign: Private keys that sign now.
        ask: Returns the passphrase of a key.

    Raises:
        ReleaseError: A key is missing or wrong, or there is a root already.
    """
    signers = [read_private_key(path, ask) for path in sign]
    result = ReleaseRepository(repository).create(
        [read_public_key(path) for path in fleet], threshold, read_public_key(online), signers
    )
    print_results(repository, [result])
    if not result.missing:
        print(f'{repository / "root.json"}: copy it to each device, and name it in agent.toml: root = "FILE"')


def run_keys_rotate(
    repository: Path,
    add: Sequence[Path],
    remove: Sequence[str],
    threshold: int | None,
    online: Path | None,
    sign: Sequence[Path],
    ask: AskPassphrase,
) -> None:
    """Makes the next root of trust; devices follow from the one that they have.

    Raises:
        ReleaseError: A key is missing or wrong.
    """
    results = ReleaseRepository(repository).rotate(
        [read_private_key(path, ask) for path in sign],
        add=[read_public_key(path) for path in add],
        remove=[_key_id(entry) for entry in remove],
        threshold=threshold,
        online_key=None if online is None else read_public_key(online),
    )
    print_results(repository, results)


def run_cosign(repository: Path, sign: Sequence[Path], ask: AskPassphrase) -> None:
    """Adds signatures to the root or the release that waits for them.

    Raises:
        ReleaseError: Nothing waits for these keys.
    """
    print_results(repository, ReleaseRepository(repository).cosign([read_private_key(path, ask) for path in sign]))


def run_keys_show(repository: Path) -> None:
    """Prints who may sign what, and until when what is signed is good.

    Raises:
        ReleaseError: There is no repository.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("role", "version", "expires", "signatures", "keys", ""):
        table.add_column(column, no_wrap=True)
    for state in ReleaseRepository(repository).states():
        table.add_row(
            state.role,
            str(state.version) if state.version else "none",
            f"{state.expires:%Y-%m-%d}" if state.expires else "",
            str(state.threshold),
            " ".join(key[:12] for key in state.keys),
            "the next version waits for signatures" if state.pending else "",
        )
    print_unwrapped(open_console(), table)


def print_results(repository: Path, results: Sequence[SigningResult]) -> None:
    """Prints what became of metadata, one line for each role."""
    for result in results:
        if result.missing:
            more = "1 more signature" if result.missing == 1 else f"{result.missing} more signatures"
            print(
                f"{result.role} version {result.version} waits for {more}, of: {', '.join(result.unsigned)}"
                f" (fedlp release cosign {repository} --key FILE)"
            )
        else:
            print(f"{result.role} version {result.version} is signed")


def _key_id(entry: str) -> str:
    """Returns the id of a key that is given as an id, or as a file."""
    path = Path(entry)
    if path.is_file():
        return read_public_key(path).keyid
    if not entry or any(letter not in "0123456789abcdef" for letter in entry):
        raise ReleaseError(f"{entry} is neither a key's file nor the beginning of its id")
    return entry
