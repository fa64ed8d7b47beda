"""Whatever is wrong with the options, or with what they name, is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.signing.signing_place import init, wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("release", "sign", "repo", "spring", "--key", "anna.key.pub"), "which cannot sign; name anna.key"),
        (("release", "sign", "repo", "nowhere", "--key", "anna.key"), "nowhere is no directory"),
        (("release", "sign", "empty", "spring", "--key", "anna.key"), "empty is no release repository"),
        (("release", "sign", "repo", "repo", "--key", "anna.key"), "repo holds no ONNX file"),
        (("release", "sign", "repo", "spring", "--key", "spring/m-d1.onnx"), "spring/m-d1.onnx is not encrypted"),
        (("release", "refresh", "repo", "--online-key", "online.key"), "no release is signed yet"),
        (("release", "withdraw", "repo", "autumn", "--key", "anna.key"), "no release autumn is signed"),
        (("keys", "rotate", "repo", "--key", "anna.key", "--remove", "ffff"), "0 fleet keys have an id"),
        (("keys", "rotate", "repo", "--key", "anna.key", "--remove", "gone.key"), "gone.key is neither a key's file"),
        (
            ("keys", "init", "repo", "--fleet-key", "ben.key.pub", "--online-key", "online.key.pub"),
            "has a root of trust",
        ),
        (("keys", "new", "carl.key"), "give a passphrase by --passphrase-file, or --no-passphrase"),
    ],
)
def test_what_is_wrong_is_one_line(place: Path, words: tuple[str, ...], said: str) -> None:
    init()
    assert said in wrong(*words)


def test_missing_library_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tuf" or "fedlp_edge.cli.signing.key_" in name]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("fedlp_edge.release.rep")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tuf", None)
    assert wrong("keys", "show", "repo") == 'signing needs tuf: pip install "fedlp-edge[release]"'
