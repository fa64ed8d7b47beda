from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.start_weights_file import file_digest, locate, start_weights_of, with_digest
from fedlp_edge.reporting.summary import FinalModel, Summary, save
from fedlp_edge.storage.checkpoints import Checkpoints

DIGEST = hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.pt"
    path.write_bytes(b"abc")
    return path


def test_finds_a_file(file: Path) -> None:
    assert locate(str(file)) == file
    assert locate("torchvision:IMAGENET1K_V1") is None


def test_finds_the_last_model_of_a_run_or_its_running_average(tmp_path: Path) -> None:
    value = np.zeros(1, np.float32)
    run, checkpoints = f"run:{tmp_path}", Checkpoints(tmp_path / "checkpoints")
    for round, averages in ((0, {}), (9, {"a": value}), (10, {}), (11, {"a": value})):
        path = checkpoints.save(round, {"a": value}, ServerState(averages=averages, first_moments={"a": value}))
        expected = checkpoints.evaluated_path(round)
        assert locate(run) == expected
        assert (expected == path) == (not averages)


@pytest.mark.parametrize(
    ("final", "round"),
    [
        (FinalModel(accuracy={}, model_digest="", round=2, metric="accuracy", value=0.8), 2),
        (FinalModel(accuracy={}, model_digest="", round=3), 3),
        (FinalModel(accuracy={}, model_digest="", round=1, metric="accuracy", value=0.8), 3),
        (None, 3),
    ],
    ids=["best", "last", "gone", "unfinished"],
)
def test_finds_the_model_that_a_finished_run_has_chosen(tmp_path: Path, final: FinalModel | None, round: int) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in (2, 3):
        checkpoints.save(number, {"a": np.zeros(1, np.float32)}, ServerState())
    save(Summary(run="r", fleet="f", model="m", rounds=(), final=final), tmp_path / "summary.json")
    assert locate(f"run:{tmp_path}") == checkpoints.weights_path(round)


def test_the_digest_of_an_index_follows_its_parts(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"b": "2.bin", "a": "1.bin"}}', "utf-8")
    with pytest.raises(StartWeightsError, match=r"names 2 files, of which 2 are missing, such as 1\.bin: fetch all"):
        file_digest(index)
    for name in ("1.bin", "2.bin"):
        (tmp_path / name).write_bytes(b"abc")
    assert file_digest(index) == hashlib.sha256(f"{DIGEST}\n{DIGEST}\n".encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"weight_map": {"a": "../1.bin"}}', r"names \.\./1\.bin; it must name files beside it"),
        ('{"weight_map": {}}', "names no file; it must"),
        ("[]", "is no index of weights, which has a weight_map"),
        ("{", "is no index of weights, which has a weight_map"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "w.index.json").write_text(text, "utf-8")
    with pytest.raises(StartWeightsError, match=reason):
        file_digest(tmp_path / "w.index.json")


def test_a_folder_is_told_with_the_file_to_name(file: Path) -> None:
    with pytest.raises(StartWeightsError, match=r"is a folder; name a file in it, such as .*w\.pt, or an earlier run"):
        locate(str(file.parent))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{0}/absent.pt", "there is no file .*absent.pt"),
        ("{0}/" + "a" * 5000, "cannot be read: File name too long"),
        ("{0}", "is a folder; name a file in it, or an earlier run as run:"),
        ("run:{0}", "holds no checkpoint; is it the directory of a run"),
        ("run:{0}/absent", "holds no checkpoint"),
    ],
)
def test_says_what_is_not_there(tmp_path: Path, source: str, reason: str) -> None:
    with pytest.raises(StartWeightsError, match=reason):
        locate(source.format(tmp_path))


def test_the_bytes_of_a_file_decide_and_not_its_path(file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pt"
    moved.write_bytes(b"abc")
    one, other = with_digest(ModelSettings(weights=str(file))), with_digest(ModelSettings(weights=str(moved)))
    assert one.weights_sha256 == DIGEST == file_digest(file)
    assert one != other
    assert one.identified == other.identified
    moved.write_bytes(b"abd")
    assert with_digest(ModelSettings(weights=str(moved))).identified != one.identified


def test_reset_heads_make_another_run_and_their_absence_none(file: Path) -> None:
    kept = with_digest(ModelSettings(weights=str(file)))
    reset = msgspec.structs.replace(kept, reset_heads=True)
    assert kept.identified != reset.identified
    # Runs that were begun before there was the key go on.
    before = [key for key in ModelSettings.__struct_fields__ if key != "reset_heads"]
    assert list(kept.identified) == before
    assert ModelSettings().identified == {key: getattr(ModelSettings(), key) for key in before}


def test_reset_heads_are_of_start_weights(file: Path) -> None:
    reset = with_digest(ModelSettings(weights=str(file), reset_heads=True))
    found = start_weights_of(reset)
    assert found is not None
    assert found.reset_heads
    assert reset.without_weights == ModelSettings()
    with pytest.raises(ValueError, match="weights names none: heads start anew without it"):
        ModelSettings(reset_heads=True)


def test_a_stated_digest_must_be_that_of_the_file(file: Path) -> None:
    stated = ModelSettings(weights=str(file), weights_sha256=DIGEST)
    assert with_digest(stated) == stated
    file.write_bytes(b"other")
    with pytest.raises(StartWeightsError, match=f"not {DIGEST} as weights_sha256 says"):
        with_digest(stated)


def test_a_run_that_has_begun_goes_on_without_its_file(file: Path) -> None:
    begun = with_digest(ModelSettings(weights=str(file)))
    file.unlink()
    assert with_digest(ModelSettings(weights=str(file)), begun) == begun
    with pytest.raises(StartWeightsError, match="there is no file"):
        with_digest(ModelSettings(weights=f"{file}.other"), begun)


def test_devices_are_told_nothing_of_the_file(file: Path) -> None:
    settings = with_digest(ModelSettings(weights=str(file), freeze=("L1",)))
    assert settings.without_weights == ModelSettings(freeze=("L1",))
    found = start_weights_of(settings)
    assert found is not None
    assert (found.path, found.sha256) == (str(file), DIGEST)
    assert start_weights_of(ModelSettings()) is None
