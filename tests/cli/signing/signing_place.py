"""``fedlp`` as it is called, in a directory with two fleet keys, an online key and an exported model."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlp_edge.cli.main import app
from fedlp_edge.errors import FedLPError

runner = CliRunner()


def fedlp(*words: object) -> str:
    done = runner.invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.output


def wrong(*words: object) -> str:
    with pytest.raises(FedLPError) as raised:
        fedlp(*words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def make_place() -> None:
    """Keys and a model in the working directory."""
    for name in ("anna.key", "ben.key", "online.key"):
        fedlp("keys", "new", name, "--no-passphrase")
    Path("spring").mkdir()
    Path("spring/m-d1.onnx").write_bytes(b"a model")
    Path("spring/m-d1.selftest.npz").write_bytes(b"a self-test")
    Path("spring/card.md").write_text("not signed")


def init(*more: str) -> str:
    return fedlp("keys", "init", "repo", "--fleet-key", "anna.key.pub", "--online-key", "online.key.pub", *more)
