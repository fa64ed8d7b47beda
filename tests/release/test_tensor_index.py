"""Tensors are found by their contents, wherever they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fedlp_edge.release.tensor_index import TensorIndex, key_of
from fedlp_edge.wire.tensors import pack

WEIGHTS = np.arange(64, dtype=np.float32)
KEY = key_of(WEIGHTS.tobytes())


def test_tensor_of_a_unit_and_of_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(pack({"small": WEIGHTS[:8], "w": WEIGHTS.reshape(8, 8)}))
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(WEIGHTS + 1, "w")])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))

    index = TensorIndex.of(tmp_path.iterdir())

    assert sorted(index.keys) == sorted([KEY, key_of((WEIGHTS + 1).tobytes())])  # the small one is not worth a key
    assert np.array_equal(index.values(KEY), WEIGHTS)


def test_files_that_hold_no_tensors_have_no_part_in_it(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(pack({"w": WEIGHTS})[:-1])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 20)

    index = TensorIndex.of([*tmp_path.iterdir(), tmp_path / "gone"])

    assert KEY not in index
    with pytest.raises(KeyError):
        index.values(KEY)
