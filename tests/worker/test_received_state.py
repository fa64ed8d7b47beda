"""A round starts from weights as they came over the air."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.errors import ModelError, StorageError
from fedlp_edge.learning.model.state_values import load_values
from fedlp_edge.wire.broadcast_encoding import encode_weights, published_weights
from fedlp_edge.wire.tensors import pack_file
from fedlp_edge.worker.jobs import EncodedUnit
from fedlp_edge.worker.received_state import ReceivedState

TENSORS = (TensorSpec("L1.weight", (2, 8)), TensorSpec("L1.count", (), "statistic"))
WEIGHTS = {"L1.weight": np.linspace(-1, 2, 16, dtype=np.float32).reshape(2, 8), "L1.count": np.float32(3).reshape(())}


def arrived(path: Path, encoding: BroadcastEncoding) -> EncodedUnit:
    path.write_bytes(encode_weights(TENSORS, WEIGHTS, encoding))
    return EncodedUnit(str(path), encoding, TENSORS)


@pytest.mark.parametrize("encoding", ["fp16", "int8", "int4", "int4+zstd", "none+zstd"])
def test_gives_what_was_published(tmp_path: Path, encoding: BroadcastEncoding) -> None:
    state = ReceivedState([], [arrived(tmp_path / "blob", encoding)])
    expected = published_weights(TENSORS, WEIGHTS, encoding)
    with state.open() as opened:
        for spec in TENSORS:
            assert opened.read(spec.name, spec.shape).numpy().tobytes() == expected[spec.name].tobytes()


def test_a_model_is_filled_from_units_in_float32_and_encoded_ones(tmp_path: Path) -> None:
    pack_file({"L2.weight": np.full(2, 7, np.float32)}, tmp_path / "L2")
    model = torch.nn.ParameterDict({"weight": torch.zeros(2)})
    whole = torch.nn.ModuleDict({"L2": model, "L1": torch.nn.ParameterDict({"weight": torch.zeros(2, 8)})})
    state = ReceivedState([tmp_path / "L2"], [arrived(tmp_path / "blob", "fp16")])
    load_values(whole, state, ["L1.weight", "L2.weight"])
    assert whole["L2"].weight.tolist() == [7.0, 7.0]
    assert whole["L1"].weight[0].tolist() == WEIGHTS["L1.weight"][0].astype(np.float16).tolist()


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (None, "No such file"),
        (b"", "is cut short"),
        (encode_weights(TENSORS[1:], WEIGHTS, "int8"), "the weights lack L1.weight"),
        (encode_weights(TENSORS, WEIGHTS, "fp16"), "L1.weight came as F16"),
    ],
    ids=["missing", "empty", "another unit", "another encoding"],
)
def test_a_file_that_does_not_hold_the_unit_is_refused(tmp_path: Path, blob: bytes | None, reason: str) -> None:
    path = tmp_path / "blob"
    if blob is not None:
        path.write_bytes(blob)
    state = ReceivedState([], [EncodedUnit(str(path), "int8", TENSORS)])
    with pytest.raises(StorageError, match=f"^cannot read the model state {path}: .*{reason}"), state.open():
        pass


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    state = ReceivedState([], [arrived(tmp_path / "blob", "fp16")])
    with state.open() as opened, pytest.raises(ModelError, match="where the model has"):
        opened.read("L1.weight", (2, 9))
