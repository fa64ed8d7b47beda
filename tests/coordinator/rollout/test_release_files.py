"""The files of a release: in a run, in a directory with a card, in one without."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.rollout.release_files import find_release, list_files, release_name, self_test_of
from fedlp_edge.core.model_card import CARD_FILE, CardEntry, ModelCard, encode_card
from fedlp_edge.errors import OperatorError
from fedlp_edge.learning.export.self_test import check_self_test
from fedlp_edge.wire.digests import digest_of
from tests.learning.export.test_self_test import write_model
from tests.release.two_files import write_two_files


def entry(path: Path, depth: int, **changes: object) -> CardEntry:
    content = path.read_bytes()
    return CardEntry(
        **{
            "file": path.name,
            "depth": depth,
            "precision": "fp32",
            "sha256": hashlib.sha256(content).hexdigest(),
            "blake3": digest_of(content),
            "bytes": len(content),
            "max_abs_diff": 0.0,
            "agreement": 1.0,
            **changes,
        }
    )


def test_names_tell_depth_and_precision_where_no_card_does(tmp_path: Path) -> None:
    for name in ("mlp-depth-3.onnx", "mlp-d1.onnx", "mlp-d1-int8.onnx", "other.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    found = [(file.path.name, file.depth, file.precision) for file in find_release(tmp_path)]
    assert found == [("mlp-d1.onnx", 1, "fp32"), ("mlp-d1-int8.onnx", 1, "int8"), ("mlp-depth-3.onnx", 3, "fp32")]


def test_card_tells_what_it_knows_and_leaves_out_the_rest(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "stray-d9.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    entries = (entry(tmp_path / "a.onnx", 2), entry(tmp_path / "b.onnx", 4, exits=(2, 4), threshold=0.8))
    card = ModelCard(model="mlp", task="classification", input_shape=(4,), files=entries)
    (tmp_path / CARD_FILE).write_bytes(encode_card(card))
    found = [(file.path.name, file.depth, file.early_exit) for file in find_release(tmp_path)]
    assert found == [("a.onnx", 2, False), ("b.onnx", 4, True)]
    (tmp_path / "a.onnx").write_bytes(b"changed")
    with pytest.raises(OperatorError, match=r"a\.onnx is not the file that card\.json describes"):
        find_release(tmp_path)


def test_files_with_weights_beside_them_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "m-d1.onnx").write_bytes(b"one")
    write_two_files(tmp_path / "m-d2.onnx")
    assert [file.path.name for file in find_release(tmp_path)] == ["m-d1.onnx"]
    assert [(file.path.name, file.weights_file) for file in list_files(tmp_path)] == [
        ("m-d1.onnx", ""), ("m-d2.onnx", "m-d2.onnx.data"),
    ]  # fmt: skip
    (tmp_path / "m-d1.onnx").unlink()
    with pytest.raises(OperatorError, match=r"m-d2\.onnx keeps its weights in m-d2\.onnx\.data, and a device gets one"):
        find_release(tmp_path)


def test_files_of_a_run_stand_in_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "journal.sqlite").touch()
    (tmp_path / "onnx" / "mlp-depth-2.onnx").write_bytes(b"two")
    assert [file.depth for file in find_release(tmp_path)] == [2]


def test_directory_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="holds no ONNX file of a known depth"):
        find_release(tmp_path)
    with pytest.raises(OperatorError, match="is no directory"):
        find_release(tmp_path / "missing")


def test_release_is_another_one_when_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "m-d1.onnx").write_bytes(b"one")
    first = release_name(find_release(tmp_path), tmp_path)
    assert first == release_name(find_release(tmp_path), tmp_path)
    (tmp_path / "m-d1.onnx").write_bytes(b"two")
    assert release_name(find_release(tmp_path), tmp_path) != first


def test_self_test_is_made_where_none_stands_beside_the_file(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m-d1.onnx", 2.0)
    (file,) = find_release(tmp_path)
    made = self_test_of(file, tmp_path / "made")
    assert made.parent == tmp_path / "made"
    assert check_self_test(model, made) == ""
    (tmp_path / "m-d1.selftest.npz").write_bytes(made.read_bytes())
    assert self_test_of(file, tmp_path / "made") == tmp_path / "m-d1.selftest.npz"


def test_file_that_does_not_run_here_is_not_rolled_out(tmp_path: Path) -> None:
    (tmp_path / "m-d1.onnx").write_bytes(b"no model")
    (file,) = find_release(tmp_path)
    with pytest.raises(OperatorError, match="has no self-test, and none can be made: does not load in onnxruntime"):
        self_test_of(file, tmp_path / "made")
