"""``fedlp keys``: how keys are kept, lost and replaced."""

from __future__ import annotations

from pathlib import Path

from tests.cli.signing.signing_place import fedlp, init, wrong


def test_lost_key_is_replaced_by_those_who_have_the_others(place: Path) -> None:
    init("--fleet-key", "ben.key.pub")
    fedlp("release", "sign", "repo", "spring", "--key", "anna.key")
    Path("anna.key").unlink()
    assert wrong("release", "sign", "repo", "spring", "--key", "anna.key") == (
        "there is no key anna.key; if it is lost, the holders of the other keys can replace it with fedlp keys rotate"
    )
    said = fedlp("keys", "rotate", "repo", "--key", "ben.key", "--remove", "anna.key.pub")
    assert said == "root version 2 is signed\ntargets version 2 is signed\n"


def test_key_that_others_can_read_is_refused(place: Path) -> None:
    init()
    Path("anna.key").chmod(0o644)
    assert wrong("release", "sign", "repo", "spring", "--key", "anna.key") == (
        "anna.key is not encrypted and others can read it; run: chmod 600 anna.key; where that changes nothing, as on "
        "FAT and many shares, copy it to another file system before"
    )


def test_key_is_never_overwritten(place: Path) -> None:
    before = Path("anna.key").read_bytes()
    assert wrong("keys", "new", "anna.key", "--no-passphrase") == (
        "anna.key exists; a key is never overwritten, choose another name"
    )
    assert Path("anna.key").read_bytes() == before
    assert Path("anna.key").stat().st_mode & 0o777 == 0o600
