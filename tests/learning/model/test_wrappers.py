"""Wrappers are taken off a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.wrappers import unwrapped


def test_model_is_taken_out_of_its_wrappers() -> None:
    model = nn.Linear(1, 1)
    assert unwrapped(model) is model
    assert unwrapped(nn.DataParallel(nn.DataParallel(model))) is model


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    with pytest.raises(PartitionError) as caught:
        unwrapped(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)))
    assert str(caught.value) == (
        "the model is TorchScript (torch.jit), which cannot be split; give the module that it was made from"
    )
