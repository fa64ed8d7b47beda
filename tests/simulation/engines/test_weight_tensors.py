"""Shared arrays as tensors of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.state_values import read_only_tensor
from fedlp_edge.simulation.engines.weight_tensors import ArrayState, arrays_of, leading

TABLE = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_narrower_model_takes_the_leading_block_and_a_whole_one_the_array_itself() -> None:
    assert leading(TABLE, (1, 2)).tolist() == [[0.0, 1.0]]
    assert leading(TABLE, (2, 3)) is TABLE


def test_the_first_mapping_with_a_name_gives_its_value() -> None:
    own, shared = {"a": np.ones(1, np.float32)}, {"a": np.zeros(1, np.float32), "b": TABLE}
    with ArrayState(own, shared).open() as opened:
        assert opened.read("a", (1,)).tolist() == [1.0]
        assert opened.read("b", (2, 2)).tolist() == [[0.0, 1.0], [3.0, 4.0]]
        with pytest.raises(ModelError, match="lack the tensor c"):
            opened.read("c", (1,))


def test_tensors_and_arrays_share_their_memory() -> None:
    x = torch.zeros(2)
    arrays_of({"x": x})["x"][0] = 5
    assert x.tolist() == [5.0, 0.0]
    assert read_only_tensor(TABLE).data_ptr() == TABLE.ctypes.data
