"""Where a passphrase comes from, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.signing.signing_place import fedlp, wrong


def test_encrypted_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("right").write_text("correct horse\n")
    Path("other").write_text("battery\n")
    fedlp("keys", "new", "carl.key", "--passphrase-file", "right")
    fedlp(
        "keys",
        "init",
        "repo",
        "--fleet-key",
        "carl.key.pub",
        "--online-key",
        "online.key.pub",
        "--passphrase-file",
        "right",
    )

    sign = ("release", "sign", "repo", "spring", "--key", "carl.key")

    assert wrong(*sign, "--passphrase-file", "other") == (
        "carl.key cannot be used: the passphrase is wrong, or the file is damaged"
    )
    assert wrong(*sign) == (
        "carl.key is encrypted; give its passphrase by --passphrase-file, in FEDLP_KEY_PASSPHRASE, or on a terminal"
    )
    monkeypatch.setenv("FEDLP_KEY_PASSPHRASE", "correct horse\r\n")
    assert "targets version 1 is signed" in fedlp(*sign)


def test_file_without_a_passphrase(place: Path) -> None:
    Path("empty").write_text("\n")
    assert (
        wrong("keys", "new", "carl.key", "--passphrase-file", "empty") == "empty holds no passphrase in its first line"
    )
    assert wrong("keys", "new", "carl.key", "--passphrase-file", "gone") == "gone: No such file or directory"
    assert not Path("carl.key").exists()


def test_file_of_an_editor_of_windows(place: Path) -> None:
    Path("wide").write_bytes("correct horse\r\n".encode("utf-16"))
    words = ("keys", "new", "carl.key", "--passphrase-file", "wide")
    assert wrong(*words) == "wide was saved as UTF-16; save it as UTF-8"
    Path("wide").write_bytes(b"\xef\xbb\xbfcorrect horse\r\n")
    fedlp(*words)
    assert Path("carl.key").exists()
