"""Surroundings in which services and commands start: from cron, in containers, over serial lines, in a wrong place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.config import load_config
from fedlp_edge.errors import DataError, StorageError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_source
from fedlp_edge.learning.foreign_code import load_object
from fedlp_edge.system.directories import working_directory

PRINTS = """
import sys
from fedlp_edge.system.lifecycle import run_command
from fedlp_edge.reporting.console import open_console

def command() -> int:
    open_console().print("Größe \\udcff 工場")
    return 0

sys.exit(run_command(command))
"""


def test_names_are_printed_where_the_terminal_lacks_their_characters() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [r"Gr\xf6\xdfe", r"\udcff", r"\u5de5\u5834"]


def test_a_working_directory_that_was_removed_keeps_nothing_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert working_directory() == "/"
    assert load_object("json:loads", DataError)("1") == 1


def test_an_agent_of_a_user_without_account_and_home_says_where_its_state_may_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOME", "FEDLP_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    config = load_config(None, {"fleet": "shop", "data": "digits"})
    with pytest.raises(StorageError, match="this user has no home directory; name a directory with --state or FEDLP_"):
        _ = config.state_dir
    assert load_config(None, {"fleet": "shop", "data": "digits", "state": "/state"}).state_dir == Path("/state")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("csv:$HOME/a.csv", "variables are not expanded here"),
        ("csv:%USERPROFILE%/a.csv", "variables are not expanded here"),
        ("csv:/data/*.csv", "patterns are not expanded here; name the directory"),
        ("csv:/data/a.csv&target=y", "options follow a #"),
        ("csv:/data/a.csv?target=y", "options follow a #"),
        ("csv:/data/a.csv:target=y", "options follow a #"),
        ("parquet:s3://bucket/a.parquet", "data are read from this machine"),
        ("imagefolder:https://host/parts", "data are read from this machine"),
        ("csv:file:///data/a.csv", "write the path itself, without file://"),
        ("imagefolder:parts of May", "there is no image directory parts of May in /"),
    ],
)
def test_a_path_that_is_meant_for_another_program_is_refused_with_what_to_do(argument: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        check_source(parse_spec(argument))
    assert words in str(caught.value)


def test_a_number_sign_in_a_path_that_is_there_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "Line #2").mkdir()
    assert parse_spec(f"imagefolder:{tmp_path}/Line #2").path == tmp_path / "Line #2"
    assert parse_spec(f"imagefolder:{tmp_path}/Line #2#size=8").size == (8, 8)
    with pytest.raises(DataError, match="'2' is no option"):
        parse_spec(f"imagefolder:{tmp_path}/Other #2")
