"""Key files are made once, encrypted or private, and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.key_files import make_key, read_private_key, read_public_key


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_key_signs_and_its_public_part_verifies(tmp_path: Path, passphrase: str) -> None:
    made = make_key(tmp_path / "a.key", passphrase)
    signer = read_private_key(tmp_path / "a.key", lambda _: passphrase)
    public = read_public_key(tmp_path / "a.key.pub")
    assert made.keyid == public.keyid == signer.public_key.keyid == read_public_key(tmp_path / "a.key").keyid
    public.verify_signature(signer.sign(b"text"), b"text")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_passphrase_is_not_asked_for_in_vain(tmp_path: Path) -> None:
    make_key(tmp_path / "a.key", "")

    def ask(_: Path) -> str:
        raise AssertionError("asked")

    read_private_key(tmp_path / "a.key", ask)


def test_key_that_its_file_system_shows_to_others_is_made_with_a_passphrase_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlp_edge.release.key_files._PRIVATE_MODE", 0o755)  # as FAT and exFAT show every file
    with pytest.raises(ReleaseError) as refused:
        make_key(tmp_path / "a.key", "")
    assert str(refused.value) == (
        f"{tmp_path}/a.key: its file system keeps no access rights (FAT, exFAT, a share), so others could read this "
        "key; choose a place on another one, or give the key a passphrase"
    )
    assert list(tmp_path.iterdir()) == []
    make_key(tmp_path / "a.key", "correct horse")


def test_public_part_that_exists_keeps_the_private_one_from_being_made(tmp_path: Path) -> None:
    (tmp_path / "a.key.pub").write_text("mine")
    with pytest.raises(ReleaseError, match=r"a.key.pub exists"):
        make_key(tmp_path / "a.key", "")
    assert not (tmp_path / "a.key").exists()


def test_key_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ReleaseError, match="is no Ed25519 key"):
        read_private_key(path, lambda _: "")


def test_what_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(ReleaseError, match="cannot be used: it is no private key"):
        read_private_key(path, lambda _: "")
    with pytest.raises(ReleaseError, match="is no public key"):
        read_public_key(path)
