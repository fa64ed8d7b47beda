"""The commands of the page on releases, as they stand there, lead from no key to replaced ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlp_edge.cli.main import app
from tests.fleets.rolled_out import write_release
from tests.test_docs import ROOT
from tests.test_docs_commands import commands_in_blocks


def test_commands_about_keys_are_taken_in_the_order_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLP_KEY_PASSPHRASE", "words")
    write_release(tmp_path / "spring", b"model")
    text = (ROOT / "docs" / "releases.md").read_text(encoding="utf-8")
    lines = [line for line in commands_in_blocks(text) if re.match("fedlp (keys|release (?!verify))", line)]
    assert len(lines) == 14

    said = ""
    for line in lines:
        if "online2" in line:
            made = CliRunner().invoke(app, ["keys", "new", "online2.key", "--no-passphrase"])
            assert made.exit_code == 0
        done = CliRunner().invoke(app, shlex.split(line.replace(" --run runs/spring", ""))[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{line}: {done.output}"
        said += done.output
    assert "root version 4 is signed" in said
    assert said.rstrip().endswith("root version 4 is signed")
