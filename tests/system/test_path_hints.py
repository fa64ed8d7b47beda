"""What is said of a path of data that is not there, and of one that is no run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_source
from fedlp_edge.system.path_hints import denied_hint, explain_paths, path_hint, run_hint, shown_path


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("line 1 ", "'Line 1' is there, which differs in blanks, capitals or the way that accents are stored"),
        ("Gru\u0308n", "'Gr\u00fcn' is there"),
        ("Line%201", "write it as the disk has it, Line 1"),
        ("Linie", "there is no image directory Linie in "),
    ],
)
def test_a_path_that_is_there_under_another_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Line 1", "Gr\u00fcn"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError) as caught:
        check_source(parse_spec(f"imagefolder:{written}"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("imagefolder:photos.zip", "there is no image directory photos.zip in .*: it is an archive: unpack it$"),
        (
            "audiofolder:a.wav",
            "there is no sound directory a.wav in .*: it is a file; name the directory that holds it$",
        ),
        ("npz:folder", "there is no file folder in .*: it is a directory$"),
        ("parquet:photos.zip", "photos.zip is an archive: unpack it, and name what was in it$"),
        ("huggingface:foto", "'Foto' is there, which differs"),
    ],
)
def test_a_path_of_the_wrong_kind_is_told_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos.zip", "a.wav"):
        Path(name).touch()
    for name in ("folder", "Foto"):
        Path(name).mkdir()
    with pytest.raises(DataError, match=words):
        check_source(parse_spec(source))


def test_a_part_of_a_run_is_answered_with_the_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "shop-1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "onnx").mkdir()
    (run / "onnx" / "mine.onnx").touch()
    for part in (run / "onnx", run / "checkpoints", run / "onnx" / "mine.onnx"):
        assert run_hint(part) == f"; it lies in a run: name {run}"
    assert run_hint(run.parent) == f"; it holds a run: name it, {run}"


def test_the_newest_of_several_runs_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(("shop-2", "shop-1")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        os.utime(tmp_path / name / "checkpoints", (1e9 + number, 1e9 + number))
    assert run_hint(tmp_path) == f"; it holds runs: name one, such as the newest, {tmp_path / 'shop-1'}"


def test_what_is_not_there_or_anything_else_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "Shop").mkdir()
    assert run_hint(tmp_path / "Shop") == "; is it the directory of a run?"
    assert run_hint(tmp_path / "shop").startswith(f": there is no {tmp_path / 'shop'}: 'Shop' is there")


def test_a_configuration_in_another_directory_is_named_where_something_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my fleet").mkdir()
    monkeypatch.chdir(tmp_path)
    configuration = Path("my fleet", "fleet.toml")
    with pytest.raises(DataError) as caught, explain_paths(configuration):
        raise DataError(f"there is no file {shown_path(Path('a.csv'))}")
    assert str(caught.value) == (
        f"there is no file a.csv in {tmp_path}; paths and modules start from the working directory, and my "
        f"fleet/fleet.toml lies in another: cd '{tmp_path}/my fleet'"
    )
    with pytest.raises(DataError, match=r"^there is no file /a.csv$"), explain_paths(configuration):
        raise DataError(f"there is no file {shown_path(Path('/a.csv'))}")
    for here in (None, Path("fleet.toml")):
        with pytest.raises(DataError, match=r"a\.csv in [^;]*$"), explain_paths(here):
            raise DataError(f"there is no file {shown_path(Path('a.csv'))}")


def test_a_run_that_may_not_be_read_is_not_said_to_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path / "checkpoints")
    assert run_hint(tmp_path) == f" that may be read: {tmp_path}/checkpoints: give this user access"


def closing(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != closed)
    monkeypatch.setattr("fedlp_edge.system.path_hints.this_user", lambda: "fedlp")


def test_the_directory_that_keeps_a_user_from_its_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pi").mkdir()
    closing(monkeypatch, tmp_path / "pi")
    assert denied_hint(tmp_path / "pi" / "parts") == (
        f": {tmp_path}/pi is closed to fedlp; let fedlp enter it (chmod o+x), or put the data elsewhere"
    )
    assert denied_hint(tmp_path / "other") == ""


def test_a_service_is_told_which_directories_it_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    home, temporary = Path("/home/pi/parts"), Path("/tmp/parts-that-are-not-there")
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert path_hint(str(temporary), temporary) == ""

    monkeypatch.setenv("INVOCATION_ID", "5d2c1a")
    assert path_hint(str(temporary), temporary) == (
        "; a service with PrivateTmp=yes does not see what is there: put it elsewhere, such as below /srv"
    )
    closing(monkeypatch, Path("/home"))
    assert denied_hint(home) == (
        ": /home is closed to fedlp; a service with ProtectHome=yes does not see what is there: put it elsewhere, such "
        "as below /srv"
    )
