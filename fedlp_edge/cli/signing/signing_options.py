"""This module defines the options of ``fedlp keys`` and ``fedlp release``, whose libraries are an extra."""

# ruff: noqa: PLC0415 - imports inside commands are the point

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fedlp_edge.errors import ReleaseError
from fedlp_edge.system.loading.install_command import install_command

keys = typer.Typer(name="keys", help="Makes and replaces the keys that sign releases.", no_args_is_help=True)
release = typer.Typer(name="release", help="Signs releases of exported models.", no_args_is_help=True)

_Repository = Annotated[Path, typer.Argument(metavar="REPOSITORY", help="Directory of the fleet's releases.")]
_Keys = Annotated[list[Path], typer.Option("--key", metavar="FILE", help="Fleet key that signs; may be repeated.")]
_Online = Annotated[Path, typer.Option("--online-key", metavar="FILE", help="Key of the machine that hands out.")]
_PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its first line is the passphrase. [default: FEDLP_KEY_PASSPHRASE, or asked for]"
    ),
]


@contextmanager
def _libraries() -> Iterator[None]:
    """Says in one line what must be installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("tuf", "securesystemslib", "cryptography", "urllib3"):
            raise
        raise ReleaseError(f"signing needs {missing}: {install_command('release')}") from None


@keys.command("new")
def keys_new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Private key to make; the public one is FILE.pub.")],
    no_passphrase: Annotated[bool, typer.Option(help="Do not encrypt it, as for a machine without people.")] = False,
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Makes a key pair."""
    with _libraries():
        from fedlp_edge.cli.signing.key_commands import run_keys_new
        from fedlp_edge.cli.signing.passphrases import new_passphrase

        run_keys_new(file, new_passphrase(passphrase_file, none=no_passphrase))


@keys.command("init")
def keys_init(
    repository: _Repository,
    fleet_key: Annotated[list[Path], typer.Option(metavar="FILE", help="Public fleet key; may be repeated.")],
    online_key: Annotated[Path, typer.Option(metavar="FILE", help="Public key of the machine that hands out.")],
    threshold: Annotated[int, typer.Option(min=1, help="Fleet keys that must sign together.")] = 1,
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Private fleet key that signs now. [default: those beside --fleet-key]"),
    ] = None,
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Makes the root of trust of a fleet."""
    with _libraries():
        from fedlp_edge.cli.signing.key_commands import run_keys_init
        from fedlp_edge.cli.signing.passphrases import passphrase_from

        beside = (path.with_suffix("") if path.suffix == ".pub" else path for path in fleet_key)
        sign = [path for path in beside if path.is_file()] if key is None else key
        run_keys_init(repository, fleet_key, online_key, threshold, sign, passphrase_from(passphrase_file))


@keys.command("rotate")
def keys_rotate(
    repository: _Repository,
    key: _Keys,
    add: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Public key of a new fleet key.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="FILE|ID", help="Fleet key to remove, by file or beginning of its id.")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="Fleet keys that must sign together.")] = None,
    online_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Public key of a new online key.")] = None,
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Makes the next root of trust: with other keys, another threshold, or just a later expiry."""
    with _libraries():
        from fedlp_edge.cli.signing.key_commands import run_keys_rotate
        from fedlp_edge.cli.signing.passphrases import passphrase_from

        ask = passphrase_from(passphrase_file)
        run_keys_rotate(repository, add or [], remove or [], threshold, online_key, key, ask)


@keys.command("show")
def keys_show(repository: _Repository) -> None:
    """Prints who may sign what, and when it expires."""
    with _libraries():
        from fedlp_edge.cli.signing.key_commands import run_keys_show

        run_keys_show(repository)


@release.command("sign")
def release_sign(
    repository: _Repository,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of exported files, or of a run.")],
    key: _Keys,
    name: Annotated[str, typer.Option(help="Name of the release. [default: that of DIR]")] = "",
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run of which devices hold the weights, which need not travel.")
    ] = None,
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Signs the exported files of a directory as a release."""
    with _libraries():
        from fedlp_edge.cli.signing.passphrases import passphrase_from
        from fedlp_edge.cli.signing.release_commands import run_release_sign

        run_release_sign(repository, directory, run, name, key, passphrase_from(passphrase_file))


@release.command("cosign")
def release_cosign(repository: _Repository, key: _Keys, passphrase_file: _PassphraseFile = None) -> None:
    """Adds a signature to the root or the release that waits for it."""
    with _libraries():
        from fedlp_edge.cli.signing.key_commands import run_cosign
        from fedlp_edge.cli.signing.passphrases import passphrase_from

        run_cosign(repository, key, passphrase_from(passphrase_file))


@release.command("refresh")
def release_refresh(repository: _Repository, online_key: _Online, passphrase_file: _PassphraseFile = None) -> None:
    """Signs anew what the online key signs, before it expires."""
    with _libraries():
        from fedlp_edge.cli.signing.passphrases import passphrase_from
        from fedlp_edge.cli.signing.release_commands import run_release_refresh

        run_release_refresh(repository, online_key, passphrase_from(passphrase_file))


@release.command("withdraw")
def release_withdraw(
    repository: _Repository,
    name: Annotated[str, typer.Argument(metavar="RELEASE", help="Name of the release.")],
    key: _Keys,
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Takes a release from what devices install."""
    with _libraries():
        from fedlp_edge.cli.signing.passphrases import passphrase_from
        from fedlp_edge.cli.signing.release_commands import run_release_withdraw

        run_release_withdraw(repository, name, key, passphrase_from(passphrase_file))


@release.command("show")
def release_show(repository: _Repository) -> None:
    """Prints the signed files."""
    with _libraries():
        from fedlp_edge.cli.signing.release_commands import run_release_show

        run_release_show(repository)


@release.command("verify")
def release_verify(
    repository: _Repository,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Id of a device.")],
    root: Annotated[Path, typer.Option(metavar="FILE", help="Root of trust of the device.")],
) -> None:
    """Does what a device does with what it is assigned, and says what it would install."""
    with _libraries():
        from fedlp_edge.cli.signing.release_commands import run_release_verify

        run_release_verify(repository, root, device)
