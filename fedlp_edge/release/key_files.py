"""This module makes and reads a fleet's key files: Ed25519 keys in PEM, the private part encrypted by a passphrase.

A private key that is not encrypted must be readable for its owner alone. Keys never leave the machine on which they are
made; the public part, beside the private one as ``NAME.pub``, is what others need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from fedlp_edge.errors import ReleaseError
from fedlp_edge.system.portable.file_access import PRIVATE, flush_to_disk

PUBLIC_SUFFIX = ".pub"
"""Suffix of the file with the public part, behind the name of the private one."""

AskPassphrase = Callable[[Path], str]
"""Returns the passphrase of a key file; empty if there is none to be had."""

_MAX_BYTES = 64 << 10
_PRIVATE_MODE = 0o600
_OTHERS = 0o077


def make_key(path: Path, passphrase: str) -> SSlibKey:
    """Makes a key, and writes its private part to ``path`` and its public part to ``path.pub``.

    Args:
        path: Path of the private key, which must not exist yet.
        passphrase: Passphrase that encrypts the private key; empty for none.

    Returns:
        The public key.

    Raises:
        ReleaseError: A file exists already or cannot be written, or the file system lets others read a private key
            that is not encrypted.
    """
    private = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    _write_new(path, secret, _PRIVATE_MODE)
    if not passphrase and _others_can_read(path):
        path.unlink()
        raise ReleaseError(
            f"{path}: its file system keeps no access rights (FAT, exFAT, a share), so others could read this key; "
            "choose a place on another one, or give the key a passphrase"
        )
    try:
        _write_new(public_path, public, 0o644)
    except ReleaseError:
        path.unlink()
        raise
    return SSlibKey.from_crypto(private.public_key())


def read_public_key(path: Path) -> SSlibKey:
    """Reads a public key.

    Args:
        path: Path of the public key, or of the private key beside which it stands.

    Raises:
        ReleaseError: The file is missing or no Ed25519 key.
    """
    beside = path.with_name(path.name + PUBLIC_SUFFIX)
    chosen = beside if path.suffix != PUBLIC_SUFFIX and beside.is_file() else path
    try:
        key = load_pem_public_key(_read(chosen))
    except (ValueError, UnsupportedAlgorithm):
        raise ReleaseError(f"{chosen} is no public key; fedlp keys new makes NAME and NAME.pub") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ReleaseError(f"{chosen} is no Ed25519 key; fedlp keys new makes one")
    return SSlibKey.from_crypto(key)


def read_private_key(path: Path, ask: AskPassphrase) -> CryptoSigner:
    """Reads a private key, which can sign.

    Args:
        path: Path of the private key.
        ask: Function that returns the passphrase; called if the key is encrypted.

    Raises:
        ReleaseError: The key is missing, readable for others, no Ed25519 key, or the passphrase is wrong.
    """
    text = _read(path)
    if path.suffix == PUBLIC_SUFFIX:
        raise ReleaseError(f"{path} is the public part, which cannot sign; name {path.with_suffix('')}")
    encrypted = b"ENCRYPTED" in text
    if not encrypted and _others_can_read(path):
        raise ReleaseError(
            f"{path} is not encrypted and others can read it; run: chmod 600 {path}; where that changes nothing, "
            "as on FAT and many shares, copy it to another file system before"
        )
    passphrase = ask(path) if encrypted else ""
    if encrypted and not passphrase:
        raise ReleaseError(
            f"{path} is encrypted; give its passphrase by --passphrase-file, in FEDLP_KEY_PASSPHRASE, or on a terminal"
        )
    try:
        key = load_pem_private_key(text, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "the passphrase is wrong, or the file is damaged" if encrypted else "it is no private key"
        raise ReleaseError(f"{path} cannot be used: {why}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"{path} is no Ed25519 key; fedlp keys new makes one")
    return CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))


def _others_can_read(path: Path) -> bool:
    """Whether others may read a file by its rights, which say nothing on Windows: lists of the folder decide there."""
    return sys.platform != "win32" and bool(path.stat().st_mode & _OTHERS)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        lost = "if it is lost, the holders of the other keys can replace it with fedlp keys rotate"
        raise ReleaseError(f"there is no key {path}; {lost}") from None
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}") from None


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PRIVATE, mode)
    except FileExistsError:
        raise ReleaseError(f"{path} exists; a key is never overwritten, choose another name") from None
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            flush_to_disk(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ReleaseError(f"{path}: {error.strerror}") from None
